/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "cli/cli.h"
#include "daemon/worker.h"
#include "engine/guard.h"
#include "engine/lazy_process.h"
#include "engine/write_tracker.h"

int main(int argc, char **argv) {
        /* Processes that the daemon and operations make of this program: nothing of the command line concerns them. */
        if (argc >= 2 && streq(argv[1], "worker"))
                return worker_main();
        if (argc >= 2 && streq(argv[1], "guard"))
                return guard_main();
        if (argc >= 2 && (streq(argv[1], LAZY_SERVE) || streq(argv[1], LAZY_SERVE_DETACHED)))
                return lazy_serve_main(argc, argv);
        if (argc >= 2 && streq(argv[1], LAZY_GUARD))
                return lazy_guard_main(argc, argv);
        if (argc >= 2 && streq(argv[1], WRITE_TRACKER))
                return write_tracker_main(argc, argv);
        return cli_main(argc, argv);
}
