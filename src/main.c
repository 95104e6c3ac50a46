/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "cli/cli.h"
#include "daemon/worker.h"

int main(int argc, char **argv) {
        /* The daemon starts itself again for each operation: that process has nothing to do with the command line. */
        if (argc >= 2 && streq(argv[1], "worker"))
                return worker_main();
        return cli_main(argc, argv);
}
