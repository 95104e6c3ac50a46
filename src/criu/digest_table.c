/* SPDX-License-Identifier: Apache-2.0 */

/* The themes of the table, in the order in which they are searched. The messages are those of CRIU 3.12 to 4.2.1. */

#include "base/cleanup.h"
#include "base/text.h"
#include "criu/digest.h"

static const struct digest_theme *const themes[] = {
        &digest_noise,  &digest_network, &digest_files,  &digest_terminals, &digest_processes,
        &digest_mounts, &digest_cgroups, &digest_images, &digest_machine,   &digest_general,
};

const struct digest_theme *const *digest_themes(size_t *ret_n) {
        *ret_n = ELEMENTSOF(themes);
        return themes;
}

const struct digest_row *digest_find(const char *id) {
        for (size_t i = 0; i < ELEMENTSOF(themes); i++)
                for (size_t j = 0; j < themes[i]->n; j++)
                        if (themes[i]->rows[j].id && streq(themes[i]->rows[j].id, id))
                                return &themes[i]->rows[j];
        return NULL;
}
