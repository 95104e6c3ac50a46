/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/monitor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "daemon/metrics.h"
#include "daemon/metrics_server.h"

struct monitor {
        struct service *service;
        struct metrics *metrics;
        struct metrics_server *server;
};

uint64_t monitor_resident(void) {
        _cleanup_free_ char *text = NULL;
        unsigned long long size = 0, resident = 0;

        if (io_read_file(AT_FDCWD, "/proc/self/statm", 256, &text, NULL) < 0 ||
            sscanf(text, "%llu %llu", &size, &resident) != 2)
                return 0;
        return resident * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static char *make_page(size_t *ret_size, void *userdata) {
        const struct monitor *monitor = userdata;
        struct metrics_present present = {
                .resident = monitor_resident(),
                .started = monitor->service->started,
                .queued = workers_queued(monitor->service->workers),
        };

        present.running = workers_count(monitor->service->workers) - present.queued;
        (void)db_job_count(jobs_db(monitor->service->jobs), present.jobs, NULL);
        return metrics_text(monitor->metrics, &present, ret_size);
}

static void on_end(const struct worker_ended *ended, void *userdata) {
        struct monitor *monitor = userdata;
        const Stasis__V1__CheckpointInfo *checkpoint = ended->result ? ended->result->checkpoint : NULL;

        metrics_operation(monitor->metrics, ended->kind, ended->type, ended->error ? st_error_number(ended->error) : 0,
                          ended->duration_us);
        if (checkpoint)
                metrics_checkpoint(monitor->metrics, ended->type, checkpoint->frozen, checkpoint->size);
}

int monitor_new(struct service *service, struct monitor **ret, struct st_error **err) {
        const char *configured = st_arguments_string(service->config, "Metrics.Address");
        _cleanup_free_ char *address = NULL;
        struct monitor *monitor;
        int r;

        *ret = NULL;
        if (!st_arguments_bool(service->config, "Metrics.Enabled"))
                return 0;
        address = isempty(configured) ? path_join(path_run_dir(), "metrics.sock") : xstrdup(configured);
        monitor = NEW(struct monitor);
        monitor->service = service;
        monitor->metrics = metrics_new();
        r = metrics_server_new(service->loop, address, make_page, monitor, &monitor->server, err);
        if (r < 0) {
                monitor_free(monitor);
                return r;
        }
        workers_on_end(service->workers, on_end, monitor);
        st_log_info("serves metrics at %s", address);
        *ret = monitor;
        return 0;
}

struct monitor *monitor_free(struct monitor *monitor) {
        if (!monitor)
                return NULL;
        if (monitor->server)
                workers_on_end(monitor->service->workers, NULL, NULL);
        metrics_server_free(monitor->server);
        metrics_free(monitor->metrics);
        free(monitor);
        return NULL;
}
