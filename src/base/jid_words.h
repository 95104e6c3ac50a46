/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What invented names of jobs are made of: short, easy to say and to type, nothing that could hurt. For jid.c only. */

static const char *const jid_first[] = {
        "able",   "agile",  "airy",    "amber",  "ample",  "apt",    "azure",  "balmy",  "bold",   "brave",   "breezy",
        "brief",  "bright", "brisk",   "broad",  "bronze", "calm",   "candid", "chief",  "civil",  "clean",   "clear",
        "clever", "cobalt", "cool",    "coral",  "cosy",   "crisp",  "deep",   "deft",   "dewy",   "early",   "eager",
        "easy",   "even",   "fair",    "fancy",  "fast",   "fine",   "firm",   "fleet",  "fluent", "fond",    "free",
        "fresh",  "gentle", "glad",    "golden", "good",   "grand",  "great",  "green",  "handy",  "happy",   "hardy",
        "hazel",  "honest", "humble",  "indigo", "ivory",  "jade",   "jolly",  "jovial", "keen",   "kind",    "large",
        "light",  "lilac",  "lively",  "loyal",  "lucid",  "lucky",  "lunar",  "mellow", "merry",  "mild",    "mint",
        "misty",  "modest", "navy",    "neat",   "nimble", "noble",  "olive",  "open",   "pale",   "patient", "placid",
        "polite", "prime",  "proper",  "proud",  "quick",  "quiet",  "rapid",  "ready",  "rosy",   "ruby",    "rustic",
        "safe",   "sandy",  "scarlet", "serene", "sharp",  "silent", "silver", "sleek",  "smart",  "smooth",  "snowy",
        "social", "solar",  "solid",   "sound",  "spry",   "stable", "steady", "still",  "stout",  "sunny",   "super",
        "swift",  "tall",   "tidy",    "tiny",   "topaz",  "tough",  "true",   "trusty", "upbeat", "valiant", "vast",
        "velvet", "vivid",  "warm",    "wise",   "witty",  "young",  "zesty",
};

static const char *const jid_second[] = {
        "adder",   "alpaca",   "ant",      "badger",  "bat",     "bear",    "beaver",   "bee",      "bison",
        "boar",    "buck",     "buffalo",  "bunting", "camel",   "canary",  "carp",     "cat",      "cheetah",
        "chough",  "clam",     "cobra",    "cod",     "colt",    "condor",  "coot",     "crab",     "crane",
        "cricket", "crow",     "curlew",   "deer",    "dingo",   "dog",     "dolphin",  "dove",     "dragonfly",
        "duck",    "eagle",    "eel",      "egret",   "elk",     "emu",     "ermine",   "falcon",   "ferret",
        "finch",   "firefly",  "flamingo", "fox",     "frog",    "gannet",  "gazelle",  "gecko",    "gibbon",
        "giraffe", "goose",    "grouse",   "gull",    "hamster", "hare",    "hawk",     "hedgehog", "heron",
        "hippo",   "hornet",   "horse",    "ibex",    "ibis",    "iguana",  "impala",   "jackal",   "jaguar",
        "jay",     "kestrel",  "kite",     "kiwi",    "koala",   "lark",    "lemur",    "leopard",  "lion",
        "lizard",  "llama",    "lobster",  "lynx",    "macaw",   "magpie",  "mallard",  "marten",   "mole",
        "moose",   "moth",     "mouse",    "newt",    "ocelot",  "octopus", "okapi",    "oriole",   "osprey",
        "otter",   "owl",      "oyster",   "panda",   "parrot",  "peacock", "pelican",  "penguin",  "perch",
        "petrel",  "pigeon",   "pike",     "plover",  "pony",    "puffin",  "puma",     "quail",    "rabbit",
        "raven",   "robin",    "rook",     "salmon",  "seal",    "shark",   "sheep",    "shrew",    "shrimp",
        "skylark", "snail",    "sparrow",  "spider",  "squid",   "stag",    "starling", "stoat",    "stork",
        "swallow", "swan",     "tapir",    "tern",    "thrush",  "tiger",   "toad",     "toucan",   "trout",
        "tuna",    "turtle",   "urchin",   "viper",   "vole",    "walrus",  "weasel",   "whale",    "wolf",
        "wombat",  "woodlark", "wren",     "yak",     "zebra",
};
