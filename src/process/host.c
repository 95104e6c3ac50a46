/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/host.h"
#include "process/parse.h"

#define QUOTES " \t\"'"

/* The first line of a small file, sanitised; NULL when there is none. */
static char *read_line(const char *path) {
        _cleanup_free_ char *text = io_read_line(path);

        return isempty(text) ? NULL : text_sanitise(text, strlen(text));
}

/* Ends a text of that length before the blanks and quotes at its end. */
static void trim(char *s, size_t length) {
        while (length > 0 && strchr(QUOTES, s[length - 1]))
                length--;
        s[length] = 0;
}

/*
 * The value of the first line "key<separator>value", without blanks and quotes around either; NULL when there is none.
 * Only the beginning of the file is read: of /proc/cpuinfo the first CPU is enough, and the rest is slow to make.
 */
static char *read_value(const char *path, const char *wanted, char separator) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char text[8192], *cursor = text, *line;

        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return NULL;
        text[n] = 0;
        while ((line = parse_line(&cursor))) {
                char *value = strchr(line, separator);
                if (!value)
                        continue;
                trim(line, (size_t)(value++ - line));
                if (!streq(line, wanted))
                        continue;
                value += strspn(value, QUOTES);
                trim(value, strlen(value));
                return *value ? text_sanitise(value, strlen(value)) : NULL;
        }
        return NULL;
}

static char *read_cpu_value(const char *key) {
        return read_value("/proc/cpuinfo", key, ':');
}

/* The address of the interface with the lowest number that has one; that of a real device is preferred. */
static char *read_mac(void) {
        _cleanup_closedir_ DIR *dir = opendir("/sys/class/net");
        _cleanup_free_ char *best = NULL;
        uint64_t best_rank = UINT64_MAX;
        const struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                char path[PATH_MAX];
                uint64_t index;

                if (entry->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), "/sys/class/net/%s/ifindex", entry->d_name);
                _cleanup_free_ char *number = read_line(path);
                snprintf(path, sizeof(path), "/sys/class/net/%s/address", entry->d_name);
                _cleanup_free_ char *address = read_line(path);
                if (!number || !address || streq(address, "00:00:00:00:00:00") ||
                    text_to_uint(number, INT32_MAX, &index) < 0)
                        continue;
                snprintf(path, sizeof(path), "/sys/class/net/%s/device", entry->d_name);
                uint64_t rank = index + (access(path, F_OK) == 0 ? 0 : (uint64_t)INT32_MAX + 1);
                if (rank < best_rank) {
                        best_rank = rank;
                        free(best);
                        best = TAKE_PTR(address);
                }
        }
        return TAKE_PTR(best);
}

/* Whose virtual machine this is, by what its firmware calls itself. */
static const char *virtual_system(void) {
        static const struct {
                const char *vendor, *system;
        } vendors[] = {
                { "QEMU", "kvm" },         { "KVM", "kvm" },
                { "Amazon EC2", "kvm" },   { "Google", "kvm" },
                { "VMware", "vmware" },    { "Xen", "xen" },
                { "innotek", "vbox" },     { "Oracle", "vbox" },
                { "Microsoft", "hyperv" }, { "Parallels", "parallels" },
        };
        static const char *const files[] = { "/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name" };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *text = read_line(files[i]);
                for (size_t k = 0; text && k < ELEMENTSOF(vendors); k++)
                        if (strcasestr(text, vendors[k].vendor))
                                return vendors[k].system;
        }
        return access("/sys/hypervisor/type", F_OK) == 0 ? "xen" : "unknown";
}

/* A CPU tells by a flag that a hypervisor runs below; one that has /dev/kvm may have guests. */
static void fill_virtualisation(Daemon__Host *host) {
        _cleanup_free_ char *flags = read_cpu_value("flags");

        if (flags && strstr(flags, " hypervisor")) {
                host->virtualizationsystem = xstrdup(virtual_system());
                host->virtualizationrole = xstrdup("guest");
        } else if (access("/dev/kvm", F_OK) == 0) {
                host->virtualizationsystem = xstrdup("kvm");
                host->virtualizationrole = xstrdup("host");
        }
}

char *host_cpu_flags(void) {
        return read_cpu_value("flags") ?: read_cpu_value("Features");
}

static Daemon__CPU *read_cpu(void) {
        Daemon__CPU *cpu = NEW(Daemon__CPU);
        long count = sysconf(_SC_NPROCESSORS_ONLN);

        daemon__cpu__init(cpu);
        cpu->has_count = cpu->has_cpu = 1;
        cpu->count = count > 0 ? (int32_t)count : 1;
        cpu->cpu = 0; /* the one described here */
        cpu->vendorid = read_cpu_value("vendor_id");
        if (!cpu->vendorid)
                cpu->vendorid = read_cpu_value("CPU implementer"); /* ARM */
        cpu->family = read_cpu_value("cpu family");
        if (!cpu->family)
                cpu->family = read_cpu_value("CPU architecture");
        cpu->physicalid = read_cpu_value("physical id");
        return cpu;
}

/* proc_meminfo(5): "MemTotal:       24684096 kB" */
uint64_t host_memory(const char *key) {
        _cleanup_free_ char *value = read_value("/proc/meminfo", key, ':');
        char *cursor = value;
        uint64_t n;

        if (!value || parse_number(parse_word(&cursor), 10, UINT64_MAX / 1024, &n) < 0)
                return 0;
        return n * 1024;
}

static Daemon__Memory *read_memory(void) {
        Daemon__Memory *memory = NEW(Daemon__Memory);

        daemon__memory__init(memory);
        memory->has_total = memory->has_available = memory->has_used = 1;
        memory->total = host_memory("MemTotal");
        memory->available = host_memory("MemAvailable");
        memory->used = memory->total > memory->available ? memory->total - memory->available : 0;
        return memory;
}

Daemon__Host *host_read(void) {
        Daemon__Host *host = NEW(Daemon__Host);
        struct utsname name;

        daemon__host__init(host);
        host->id = read_line("/etc/machine-id");
        host->mac = read_mac();
        host->os = xstrdup("linux");
        host->platform = read_value("/etc/os-release", "ID", '=');
        if (uname(&name) == 0) {
                host->hostname = text_sanitise(name.nodename, strlen(name.nodename));
                host->kernelversion = xstrdup(name.release);
                host->kernelarch = xstrdup(name.machine);
        }
        fill_virtualisation(host);
        host->cpu = read_cpu();
        host->memory = read_memory();
        return host;
}
