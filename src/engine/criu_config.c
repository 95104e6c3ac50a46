/* SPDX-License-Identifier: Apache-2.0 */

/* Options of CRIU for engines that run it themselves: what is a flag elsewhere is a line of a file there. */

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "criu/options.h"

int st_criu_config(const Criu__CriuOpts *options, bool restore, char **ret, struct st_error **err) {
        _cleanup_strv_ struct strv flags = { 0 };
        char *text = xstrdup("");
        int r = criu_options_to_argv(options, restore ? CRIU_RESTORE : CRIU_DUMP, &flags, err);

        for (size_t i = 0; i < flags.n && r >= 0; i++) {
                const char *flag = flags.items[i] + strspn(flags.items[i], "-");
                size_t name = strcspn(flag, "=");
                char *longer;

                if (strpbrk(flag, "\n#"))
                        r = st_error_set(err, EINVAL, "CRIU option %s: a configuration file cannot hold it", flag);
                longer = xasprintf("%s%.*s%s%s\n", text, (int)name, flag, flag[name] ? " " : "",
                                   flag[name] ? flag + name + 1 : "");
                free(text);
                text = longer;
        }
        if (r < 0)
                free(text);
        else
                *ret = text;
        return r < 0 ? r : 0;
}
