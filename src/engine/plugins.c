/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/engine.h"
#include "plugin/registry.h"

void engine_load_plugins(const struct st_arguments *config) {
        const char *configured = st_arguments_string(config, "Plugins.LibDir");
        _cleanup_free_ char *directory = isempty(configured) ? path_plugins() : path_absolute(configured);

        registry_load(directory);
}
