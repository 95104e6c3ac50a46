/* SPDX-License-Identifier: Apache-2.0 */

/* Lines that are no failure, or say only that there was one. */

#include "base/cleanup.h"
#include "criu/digest.h"

#define HARMLESS(text, why) \
        { .patterns = { (text) }, .rank = DIGEST_HARMLESS, .more = (why) }
#define TAIL(text) \
        { .patterns = { (text) }, .rank = DIGEST_TAIL }
#define FOLLOWS(text) \
        { .patterns = { (text) }, .rank = DIGEST_CONSEQUENCE }

static const struct digest_row rows[] = {
        HARMLESS("Can't setup RLIMIT_*Operation not permitted",
                 "CRIU raises its own limit of open files where it may; without CAP_SYS_RESOURCE it goes on as it is"),
        HARMLESS("prlimit*Operation not permitted", "a limit that cannot be read or raised is left as it is"),
        HARMLESS("This is not fatal", "CRIU says so itself"),
        HARMLESS("Lazy pages are not available", "userfaultfd is only needed for a lazy restore"),
        HARMLESS("Couldn't save *criu.kdat", "what CRIU found out of the kernel is found out again the next time"),
        HARMLESS("Can't stat /no-such-path", "a cache of paths that CRIU looks through for inotify"),
        HARMLESS("Unable to create a veth pair", "CRIU only asks whether the kernel can"),
        HARMLESS("Can't remove the directory *.criu.mntns.", "a directory for the time of the restore is gone already"),

        TAIL("Dumping FAILED"),
        TAIL("Restoring FAILED"),
        TAIL("failed with -1"),
        TAIL("script failed with"),
        TAIL("Unable to detach from *"),
        TAIL("exited, status=*"),
        TAIL("Message reply from daemon is trimmed"),
        TAIL("Can't retrieve FDs from socket"),
        TAIL("Couldn't open image dir"),
        TAIL("One of more action scripts failed"),
        TAIL("Killing processes because of failure on restore"),
        TAIL("Namespaces dumping finished with error"),
        TAIL("Failed to switch restore stage"),
        TAIL("cgroupd: recv req error"),
        TAIL("uns: recv req error"),
        TAIL("daemon exited abnormally"),

        FOLLOWS("Unable to open fd=* id=*"),
        FOLLOWS("Can't open vma"),
        FOLLOWS("Can't fixup VMA's fd"),
        FOLLOWS("Can't open cwd"),
        FOLLOWS("Can't open root"),
        FOLLOWS("Can't open core data for *"),
        FOLLOWS("Can't dump page with parasite"),
        FOLLOWS("Can't bind-mount *"),
        FOLLOWS("Can't parse *'s mountinfo"),
        FOLLOWS("Can't create net_ns"),
        FOLLOWS("Can't wait or bad status"),
        FOLLOWS("Can't infect (pid: *"),
        FOLLOWS("Can't catch all tasks"),
        FOLLOWS("Unable to get the root file descriptor of pid"),
        FOLLOWS("bfd: Error flushing image: Broken pipe"),
};

const struct digest_theme digest_noise = { .rows = rows, .n = ELEMENTSOF(rows) };
