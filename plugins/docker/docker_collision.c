/* SPDX-License-Identifier: Apache-2.0 */
#include "docker_collision.h"

#include <poll.h>
#include <string.h>

#define STEP_MS 100

bool docker_collided(struct st_error *error) {
        const char *content = strstr(st_error_message(error), "content sha256:");

        return content && strstr(content, "already exists");
}

int docker_collision_wait(struct st_operation *operation, unsigned tries, struct st_error **err) {
        struct pollfd cancel = { .fd = st_operation_cancel_fd(operation), .events = POLLIN };

        (void)poll(&cancel, 1, (int)tries * STEP_MS);
        return st_operation_check_cancelled(operation, err);
}
