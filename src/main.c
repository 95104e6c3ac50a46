/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "cli/cli.h"
#include "daemon/worker.h"
#include "engine/guard.h"

int main(int argc, char **argv) {
        /* Processes that the daemon and operations make of this program: nothing of the command line concerns them. */
        if (argc >= 2 && streq(argv[1], "worker"))
                return worker_main();
        if (argc >= 2 && streq(argv[1], "guard"))
                return guard_main();
        return cli_main(argc, argv);
}
