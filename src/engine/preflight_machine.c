/* SPDX-License-Identifier: Apache-2.0 */

/* Is this machine like the one a checkpoint was made on, as far as it matters? */

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "engine/memory_budget.h"
#include "engine/preflight_restore.h"
#include "process/host.h"
#include "process/parse.h"

int preflight_image(struct preflight *preflight, struct st_error **err) {
        struct image *image = restore_context(preflight->restore)->image;
        _cleanup_free_ char *size = text_from_size(image_size(image));
        int r;

        if (!image_verified(image)) {
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, NULL, NULL,
                               "it was not made by stasis and cannot be verified");
                return 0;
        }
        r = image_verify(image, st_operation_cancel_fd(preflight->restore->operation), err);
        preflight_summary(preflight, "%s, as they were written", size);
        return r;
}

/** Does a list of words, separated by blanks, have a word? */
static bool has_word(const char *list, const char *word) {
        size_t length = strlen(word);

        for (const char *at = list; (at = strstr(at, word)); at += length)
                if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
                        return true;
        return false;
}

/** Is it a flag of registers that CRIU saves: without it they cannot be loaded? */
static bool is_register_flag(const char *flag) {
        static const char *const prefixes[] = { "avx", "amx", "xsave", "fxsr", "pku", "sve", "sme" };

        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++)
                if (text_after(flag, prefixes[i]))
                        return true;
        return false;
}

/* Words of /proc/cpuinfo that are not about instructions: the kernel's mitigations, virtualisation, clocks. */
static bool is_instruction_flag(const char *flag) {
        static const char *const words[] = {
                "sse",       "sse2",    "pni",   "ssse3",      "sse4_1",    "sse4_2", "sse4a",    "popcnt", "aes",
                "fma",       "f16c",    "movbe", "rdrand",     "rdseed",    "bmi1",   "bmi2",     "adx",    "abm",
                "sha_ni",    "gfni",    "vaes",  "vpclmulqdq", "pclmulqdq", "clwb",   "fsgsbase", "rdpid",  "movdiri",
                "movdir64b", "waitpkg", "rtm",   "atomics",    "asimd",     "crc32",  "sha1",     "sha2",   "sha3",
                "sha512",    "lrcpc",   "i8mm",  "bf16",       "tbm",       "xop",    "fma4",     "lzcnt",  "cx16"
        };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (streq(flag, words[i]))
                        return true;
        return false;
}

static void check_cpu(struct preflight *preflight) {
        _cleanup_free_ char *here = host_cpu_flags(), *then = NULL, *list = NULL;
        _cleanup_strv_ struct strv registers = { 0 }, instructions = { 0 }, words = { 0 };

        if (!here || !preflight->saved || !preflight->saved->cpu_flags)
                return;
        strv_split(&words, preflight->saved->cpu_flags, ' ');
        for (size_t i = 0; i < words.n; i++) {
                if (has_word(here, words.items[i]))
                        continue;
                if (is_register_flag(words.items[i]))
                        strv_add(&registers, words.items[i]);
                else if (is_instruction_flag(words.items[i]))
                        strv_add(&instructions, words.items[i]);
        }
        if (registers.n > 0) {
                list = strv_join(&registers, " ");
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EOPNOTSUPP, "CPU",
                               "restore on a machine whose CPU has them",
                               "the dump's CPU had %s, this one has not: the saved registers may not fit", list);
        }
        if (instructions.n > 0) {
                then = strv_join(&instructions, " ");
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, "CPU",
                               "restore on a machine whose CPU has them",
                               "the dump's CPU had %s, this one has not: programs that use them end by SIGILL", then);
        }
}

/** Compares the first two numbers of kernel releases, "6.18.1-arch". @return < 0 when a is older */
static int compare_releases(const char *a, const char *b) {
        unsigned major_a = 0, minor_a = 0, major_b = 0, minor_b = 0;

        if (sscanf(a, "%u.%u", &major_a, &minor_a) < 2 || sscanf(b, "%u.%u", &major_b, &minor_b) < 2)
                return 0;
        if (major_a != major_b)
                return major_a < major_b ? -1 : 1;
        return minor_a == minor_b ? 0 : minor_a < minor_b ? -1 : 1;
}

/** The architecture, of a checkpoint that does not say it otherwise: core.proto's enumeration. */
static const char *architecture_of(const struct preflight *preflight) {
        static const char *const names[] = { NULL,    "x86_64", "armv7l",      "aarch64", "ppc64le",
                                             "s390x", "mips64", "loongarch64", "riscv64" };
        const struct criu_image_list *list =
                preflight->images ? inspect_images_find(preflight->images, "pstree", 0) : NULL;
        const CriuImage__Core *core;

        if (!list || list->n == 0)
                return NULL;
        core = inspect_images_one(preflight->images, "core", ((const CriuImage__Pstree *)list->items[0])->pid);
        return core && core->mtype < ELEMENTSOF(names) ? names[core->mtype] : NULL;
}

int preflight_machine(struct preflight *preflight, struct st_error **err) {
        const Daemon__Host *host = preflight->saved ? preflight->saved->state->host : NULL;
        const char *architecture = architecture_of(preflight);
        struct utsname name;

        (void)err;
        if (uname(&name) < 0)
                return 0;
        if (architecture && !streq(architecture, name.machine) && !streq(architecture, "armv7l")) {
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EOPNOTSUPP, "CPU",
                               "restore on a machine of that architecture", "it is of %s, this machine is %s",
                               architecture, name.machine);
                return 0;
        }
        check_cpu(preflight);
        if (host && !isempty(host->kernelversion) && compare_releases(name.release, host->kernelversion) < 0)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, "kernel", NULL,
                               "Linux %s here is older than the dump's %s: what the program uses may be missing",
                               name.release, host->kernelversion);
        preflight_summary(preflight, "%s, Linux %s", name.machine, name.release);
        return 0;
}

int preflight_criu(struct preflight *preflight, struct st_error **err) {
        const struct criu_binary *criu = restore_context(preflight->restore)->criu;
        const char *then = preflight->saved ? preflight->saved->criu_version : NULL;

        (void)err;
        if (!criu->working)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EOPNOTSUPP, criu->path,
                               "see 'stasis check --full'", "CRIU does not work here: %s", criu->problem ?: "?");
        if (then && criu->number < criu_version_number(then))
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, criu->path,
                               "install the CRIU of the dump, or a newer one",
                               "CRIU %s here is older than the dump's %s, whose images it may not know", criu->version,
                               then);
        preflight_summary(preflight, "%s", criu->version);
        return 0;
}

/** Bytes of memory that the pages need. */
static uint64_t memory_needed(const struct image *image) {
        uint64_t sum = 0;

        for (size_t i = 0; i < image_file_count(image); i++)
                if (text_after(image_file_name(image, i), "pages-"))
                        (void)__builtin_add_overflow(sum, image_file_size(image, i), &sum);
        return sum;
}

int preflight_memory(struct preflight *preflight, struct st_error **err) {
        uint64_t needed = memory_needed(restore_context(preflight->restore)->image);
        uint64_t available = host_memory("MemAvailable"), swap = host_memory("SwapFree"), room = memory_cgroup_room();
        _cleanup_free_ char *needed_text = text_from_size(needed), *available_text = text_from_size(available),
                            *room_text = text_from_size(room);

        (void)err;
        if (available > 0 && needed > available + swap)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ENOMEM, NULL, "free memory, or add swap",
                               "%s are needed, %s are available", needed_text, available_text);
        else if (available > 0 && needed > available)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, NULL, NULL,
                               "%s are needed, %s are available: it will swap", needed_text, available_text);
        if (needed > room)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, NULL, "raise the limit of the cgroup",
                               "%s are needed, the cgroup's limit leaves %s", needed_text, room_text);
        preflight_summary(preflight, "%s are needed, %s are available", needed_text, available_text);
        return 0;
}

/** May we raise hard limits? */
static bool may_raise_limits(void) {
        return proc_capabilities() & (UINT64_C(1) << CAP_SYS_RESOURCE);
}

int preflight_limits(struct preflight *preflight, struct st_error **err) {
        static const char *const names[] = { "CPU",      "FSIZE",  "DATA",    "STACK", "CORE",  "RSS",
                                             "NPROC",    "NOFILE", "MEMLOCK", "AS",    "LOCKS", "SIGPENDING",
                                             "MSGQUEUE", "NICE",   "RTPRIO",  "RTTIME" };
        const struct criu_image_list *list = inspect_images_find(preflight->images, "pstree", 0);
        uint64_t wanted[ELEMENTSOF(names)] = { 0 };

        (void)err;
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__Core *core =
                        inspect_images_one(preflight->images, "core", ((const CriuImage__Pstree *)list->items[i])->pid);
                const CriuImage__Rlimits *limits = core && core->tc ? core->tc->rlimits : NULL;

                for (size_t k = 0; limits && k < limits->n_rlimits && k < ELEMENTSOF(names); k++)
                        if (limits->rlimits[k]->max > wanted[k])
                                wanted[k] = limits->rlimits[k]->max;
        }
        for (size_t k = 0; !may_raise_limits() && k < ELEMENTSOF(names); k++) {
                struct rlimit own;

                if (getrlimit((__rlimit_resource_t)k, &own) < 0 || own.rlim_max >= wanted[k])
                        continue;
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, names[k],
                               "raise it where stasis runs, or give it CAP_SYS_RESOURCE",
                               "the limit is lower here than it was: %llu", (unsigned long long)own.rlim_max);
        }
        return 0;
}

int preflight_security(struct preflight *preflight, struct st_error **err) {
        const struct criu_image_list *list = inspect_images_find(preflight->images, "pstree", 0);
        const CriuImage__Inventory *inventory = inspect_images_one(preflight->images, "inventory", 0);
        const char *module = !inventory || inventory->lsmtype == 0 ? NULL
                             : inventory->lsmtype == 1             ? "selinux"
                                                                   : "apparmor";
        _cleanup_free_ char *modules = NULL;

        (void)err;
        if (!module)
                return 0;
        if (io_read_file(AT_FDCWD, "/sys/kernel/security/lsm", 4096, &modules, NULL) >= 0 && strstr(modules, module))
                return 0;
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__Core *core =
                        inspect_images_one(preflight->images, "core", ((const CriuImage__Pstree *)list->items[i])->pid);
                const CriuImage__Creds *creds = core && core->thread_core ? core->thread_core->creds : NULL;

                if (creds && !isempty(creds->lsm_profile) && !text_after(creds->lsm_profile, "unconfined"))
                        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EOPNOTSUPP, creds->lsm_profile,
                                       "start this kernel with that security module",
                                       "the process had a profile of %s, which this kernel has not", module);
        }
        return 0;
}
