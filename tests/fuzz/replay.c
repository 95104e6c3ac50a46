/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs a fuzz target over every file of the given files and directories, once each, in builds without libFuzzer. A
 * crash or a sanitizer's report names the input that came last.
 */

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t inputs;

static int replay_file(const char *path, size_t size) {
        FILE *f = fopen(path, "rbe");
        /* Exactly as large as the input, so that a read beyond its end is seen; never NULL. */
        uint8_t *data = malloc(size ? size : 1);

        if (!f || !data || fread(data, 1, size, f) != size) {
                fprintf(stderr, "%s: cannot be read\n", path);
                free(data);
                if (f)
                        fclose(f);
                return -1;
        }
        fclose(f);
        printf("# %s\n", path);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
        inputs++;
        return 0;
}

static int replay(const char *path) {
        struct stat st;
        struct dirent **entries = NULL;
        int n, r = 0;

        if (stat(path, &st) < 0) {
                perror(path);
                return -1;
        }
        if (!S_ISDIR(st.st_mode))
                return replay_file(path, (size_t)st.st_size);

        n = scandir(path, &entries, NULL, alphasort);
        if (n < 0) {
                perror(path);
                return -1;
        }
        for (int i = 0; i < n; i++) {
                char *child = NULL;

                if (r == 0 && entries[i]->d_name[0] != '.') {
                        if (asprintf(&child, "%s/%s", path, entries[i]->d_name) < 0)
                                r = -1;
                        else
                                r = replay(child);
                }
                free(child);
                free(entries[i]);
        }
        free(entries);
        return r;
}

int main(int argc, char **argv) {
        bool ok = argc > 1;

        puts("1..1");
        /* The smallest input of all is in every corpus. */
        LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
        for (int i = 1; i < argc; i++)
                ok = replay(argv[i]) == 0 && ok;
        printf("%sok 1 - %zu inputs\n", ok && inputs > 0 ? "" : "not ", inputs);
        return ok && inputs > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
