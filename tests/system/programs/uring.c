/* SPDX-License-Identifier: Apache-2.0 */

/* Holds an io_uring open. Exits with 77 where the kernel has none. */

#include <linux/io_uring.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
        struct io_uring_params params;

        memset(&params, 0, sizeof(params));
        if (syscall(SYS_io_uring_setup, 4, &params) < 0)
                return 77;
        for (;;)
                pause();
}
