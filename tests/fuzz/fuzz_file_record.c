/* SPDX-License-Identifier: Apache-2.0 */

/* The record of files (JSON): the input itself, and as what CRIU's images say of open files. */

#include <stdlib.h>
#include <string.h>

#include "engine/file_record.h"
#include "engine/open_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void record(const uint8_t *data, size_t size) {
        struct file_records records = { 0 }, again = { 0 };
        struct st_error *error = NULL;
        char *text;

        if (file_records_from_json((const char *)data, size, &records, &error) < 0) {
                if (!error || records.n > 0 || records.boot)
                        abort();
                st_error_free(error);
                return;
        }
        /* What was accepted is written, and read again, as the same. */
        text = file_records_to_json(&records);
        if (error || file_records_from_json(text, strlen(text), &again, NULL) < 0 || again.n != records.n)
                abort();
        for (size_t i = 0; i < records.n; i++)
                if (strcmp(records.items[i].path, again.items[i].path) != 0 ||
                    records.items[i].was.size != again.items[i].was.size)
                        abort();
        free(text);
        file_records_clear(&again);
        file_records_clear(&records);
}

static bool accept(const char *path, void *userdata) {
        (void)userdata;
        return strlen(path) % 2 == 0;
}

/** The first byte says how long the first of three images is. */
static void images(const uint8_t *data, size_t size) {
        struct open_files files = { 0 };
        void *relaxed = NULL;
        size_t cut = size > 0 && data[0] < size ? data[0] : 0, n;

        if (open_files_add_remaps(&files, data + cut, size - cut, NULL) >= 0 &&
            open_files_add(&files, data, size, NULL) >= 0)
                (void)open_files_add_maps(&files, "mm-1.img", data + cut, size - cut, NULL);
        open_files_finish(&files);
        for (size_t i = 1; i < files.n; i++)
                if (strcmp(files.items[i - 1].path, files.items[i].path) >= 0)
                        abort();
        open_files_clear(&files);
        if (open_files_relax(data, size, accept, NULL, &relaxed, &n, NULL) >= 0) {
                /* It is read again; numbers are shorter now, so a hostile one may be refused for what it needs. */
                (void)open_files_add(&files, relaxed, n, NULL);
                open_files_clear(&files);
                free(relaxed);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        record(data, size);
        images(data, size);
        return 0;
}
