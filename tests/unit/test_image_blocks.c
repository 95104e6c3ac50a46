/* SPDX-License-Identifier: Apache-2.0 */

/* Encoding by several threads (image/blocks.h), and what lz4, gzip and zlib are made of by it. */

#include "test_image_common.h"

#include <lz4frame.h>
#include <sys/eventfd.h>
#include <zlib.h>

#include "image/blocks.h"
#include "image/codec.h"
#include "image/tar.h"

#define BLOCK BLOCKS_SIZE

static const struct codec *const codecs[] = { &codec_gzip, &codec_lz4, &codec_zlib };

struct output {
        uint8_t *bytes;
        size_t n, room;
        size_t fails_at; /* no byte more than that; 0: it has room for all */
};

static int put(void *userdata, const void *data, size_t length, struct st_error **err) {
        struct output *output = userdata;
        if (output->fails_at > 0 && output->n + length > output->fails_at)
                return st_error_set(err, ENOSPC, "no room");
        if (output->n + length > output->room)
                output->bytes = xrealloc(output->bytes, output->room = 2 * (output->n + length), 1);
        memcpy(output->bytes + output->n, data, length);
        output->n += length;
        return 0;
}

/** Encodes, in pieces of odd lengths when `seed` is not 0. @return 0 or the first error */
static int encode(const struct codec *codec, unsigned threads, const uint8_t *data, size_t n, uint64_t seed,
                  struct output *output, struct st_error **err) {
        struct codec_encoding encoding = { .size = n, .threads = threads, .put = put, .userdata = output };
        void *encoder = NULL;
        int r = codec->encoder_new(&encoding, &encoder, err);
        for (size_t at = 0, step; at < n && r == 0; at += step) {
                step = seed > 0 ? (size_t)(next_random(&seed) % (3 * BLOCK / 2)) : n;
                step = step < n - at ? step : n - at;
                r = codec->encode(encoder, data + at, step, err);
        }
        if (r == 0)
                r = codec->finish(encoder, err);
        if (r == 0) {
                uint8_t payload[FOOTER_PAYLOAD] = "payload", footer[FOOTER_MAX];
                codec->make_footer(encoder, payload, footer);
                r = put(output, footer, codec->footer_size, err);
        }
        codec->encoder_free(encoder);
        return r;
}

/** What the formats' own library makes of it: the checksums, too. @return the length */
static size_t inflate_all(const struct output *output, int window, uint8_t *decoded, size_t room) {
        z_stream stream = { .next_in = output->bytes, .avail_in = (uInt)output->n };
        stream.next_out = decoded;
        stream.avail_out = (uInt)room;
        assert_int_equal(inflateInit2(&stream, window), Z_OK);
        assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
        size_t behind = stream.avail_in;
        size_t n = room - stream.avail_out;
        inflateEnd(&stream);
        assert_int_equal(behind, window > 15 ? codec_gzip.footer_size : 0); /* all else is one member */
        return n;
}

static size_t decompress_all(const struct output *output, uint8_t *decoded, size_t room) {
        LZ4F_dctx *context;
        assert_false(LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)));
        size_t in = output->n, n = room;
        assert_int_equal(LZ4F_decompress(context, decoded, &n, output->bytes, &in, NULL), 0);
        assert_int_equal(output->n - in, codec_lz4.footer_size);
        LZ4F_freeDecompressionContext(context);
        return n;
}

static void assert_decodes(const struct codec *codec, const struct output *output, const uint8_t *data, size_t n) {
        size_t room = n + 2 * TAR_BLOCK;
        uint8_t *decoded = xmalloc(room);
        size_t got = codec == &codec_lz4    ? decompress_all(output, decoded, room)
                     : codec == &codec_gzip ? inflate_all(output, 15 + 16, decoded, room)
                                            : inflate_all(output, 15, decoded, room);
        assert_int_equal(got, n + (codec->inside ? TAR_BLOCK : 0));
        assert_int_equal(memcmp(decoded, data, n), 0);
        free(decoded);
}

static void round_trip(const uint8_t *data, size_t n, uint64_t seed) {
        for (size_t c = 0; c < ELEMENTSOF(codecs); c++) {
                struct output one = { 0 };
                for (unsigned threads = 0; threads < 4; threads += threads + 1) {
                        struct output output = { 0 };
                        struct st_error *error = NULL;
                        assert_ok(encode(codecs[c], threads, data, n, seed + threads, &output, &error), error);
                        if (threads == 0) {
                                assert_decodes(codecs[c], &output, data, n);
                                one = output;
                                continue;
                        }
                        assert_int_equal(output.n, one.n);
                        assert_int_equal(memcmp(output.bytes, one.bytes, one.n), 0);
                        free(output.bytes);
                }
                free(one.bytes);
        }
}

static uint64_t draw_seed(void) {
        const char *given = getenv("STASIS_SEED");
        uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)getpid() * 2654435761u + 1;
        print_message("STASIS_SEED=%llu\n", (unsigned long long)seed);
        return seed;
}

static void test_round_trips(void **state) {
        static const size_t sizes[] = { 0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 32767 };
        (void)state;
        uint64_t seed = draw_seed();
        uint8_t *data = make_bytes(5 * BLOCK, seed);
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                round_trip(data, sizes[i], i % 2 > 0 ? seed : 0);
        for (size_t i = 0; i < 2; i++)
                round_trip(data, (size_t)(next_random(&seed) % (5 * BLOCK)), seed);
        free(data);
}

/** What does not compress at all fits into a block's room, and grows by next to nothing. */
static void test_incompressible(void **state) {
        (void)state;
        size_t n = 3 * BLOCK;
        uint8_t *data = xmalloc(n);
        uint64_t random = 88172645463325252u;
        for (size_t i = 0; i < n; i += 8) {
                uint64_t value = next_random(&random);
                memcpy(data + i, &value, 8);
        }
        for (size_t c = 0; c < ELEMENTSOF(codecs); c++) {
                struct output output = { 0 };
                struct st_error *error = NULL;
                assert_ok(encode(codecs[c], 2, data, n, 0, &output, &error), error);
                assert_true(output.n < n + n / 256);
                assert_decodes(codecs[c], &output, data, n);
                free(output.bytes);
        }
        free(data);
}

/** What repeats is found across the borders of blocks: deflate alone, made in one piece, is not much smaller. */
static void test_dictionary(void **state) {
        (void)state;
        size_t n = 6 * BLOCK, period = 30000;
        uint8_t *data = xmalloc(n);
        uint64_t random = 88172645463325252u;
        for (size_t i = 0; i < n; i++)
                data[i] = i < period ? (uint8_t)next_random(&random) : data[i - period];
        uLongf whole = compressBound(n);
        uint8_t *in_one = xmalloc(whole);
        assert_int_equal(compress2(in_one, &whole, data, n, 1), Z_OK);
        struct output output = { 0 };
        struct st_error *error = NULL;
        assert_ok(encode(&codec_zlib, 2, data, n, 0, &output, &error), error);
        assert_true(output.n < whole + period);
        assert_decodes(&codec_zlib, &output, data, n);
        free(output.bytes);
        free(in_one);
        free(data);
}

/** Wherever the disk is full: the error arrives, and nothing is left (of memory, of threads: the sanitizers see). */
static void test_full(void **state) {
        (void)state;
        size_t n = 5 * BLOCK + 1000;
        uint8_t *data = make_bytes(n, 1);
        for (size_t c = 0; c < ELEMENTSOF(codecs); c++) {
                struct output whole = { 0 };
                assert_int_equal(encode(codecs[c], 2, data, n, 7, &whole, NULL), 0);
                for (size_t at = 1; at < whole.n; at += whole.n / 7) {
                        struct output output = { .fails_at = at };
                        struct st_error *error = NULL;
                        assert_int_equal(encode(codecs[c], (unsigned)(at % 4), data, n, 7, &output, &error), -ENOSPC);
                        assert_string_equal(st_error_message(error), "no room");
                        st_error_free(error);
                        assert_true(output.n <= at);
                        free(output.bytes);
                }
                free(whole.bytes);
        }
        free(data);
}

static void cancel(uint64_t done, uint64_t total, void *userdata) {
        int *fd = userdata;
        (void)total;
        if (done >= 4 * MIB)
                assert_int_equal(eventfd_write(*fd, 1), 0);
}

/** Blocks are being encoded when the dump is cancelled. */
static void test_cancel(void **state) {
        static const enum image_format formats[] = { IMAGE_GZIP, IMAGE_LZ4, IMAGE_ZLIB };
        (void)state;
        char *directory = make_directory();
        uint8_t *bytes = make_bytes(20 * MIB, 1);
        for (size_t f = 0; f < ELEMENTSOF(formats); f++) {
                struct kind kind = { formats[f], 0 };
                struct st_error *error = NULL;
                struct store *store = store_new(64 * MIB, "/tmp");
                struct store_file *file = store_add(store, "pages-1.img", &error);
                assert_ok(store_append(store, file, bytes, 20 * MIB, &error), error);
                char *path = kind_path(kind, directory, "c"), *partial = image_partial_path(path, "1");
                int fd = eventfd(0, EFD_CLOEXEC);
                struct image_write options = options_for(kind, path, partial);
                options.cancel_fd = fd;
                options.progress = cancel;
                options.userdata = &fd;
                assert_int_equal(image_write(store, &options, &error), -ECANCELED);
                assert_int_equal(count_entries(directory), 0);
                st_error_free(error);
                store_free(store);
                free(path);
                free(partial);
                close(fd);
        }
        free(bytes);
        remove_directory(directory);
}

/** A method that fails for a block whose first byte says so, and counts its states. */
static int states;

static void *state_new(void) {
        if (states == 3)
                return NULL;
        states++;
        return &states;
}

static void state_free(void *state) {
        assert_ptr_equal(state, &states);
        states--;
}

static int encode_or_fail(void *state, struct block *block, struct st_error **err) {
        (void)state;
        if (block->in[0] != 0)
                return st_error_set(err, EIO, "block %d", block->in[0]);
        block->out[0] = (uint8_t)block->before;
        block->made = 1;
        return 0;
}

static int put_block(void *userdata, const struct block *block, struct st_error **err) {
        return put(userdata, block->out, block->made, err);
}

/** The first error in the order of the stream is told, whichever thread is faster; what precedes it is put out. */
static void test_failing_block(void **state) {
        static const struct blocks_method method = { 7, 8, state_new, state_free, encode_or_fail };
        (void)state;
        uint8_t *data = xcalloc(6, BLOCK);
        data[3 * BLOCK] = 3;
        data[4 * BLOCK] = 4;
        for (unsigned threads = 0; threads < 4; threads++) {
                struct output output = { 0 };
                struct blocks *blocks;
                struct st_error *error = NULL;
                assert_ok(blocks_new(&method, 6 * BLOCK, threads, put_block, &output, &blocks, &error), error);
                assert_int_equal(states, threads > 0 ? (int)threads : 1);
                int r = blocks_add(blocks, data, 6 * BLOCK, &error);
                if (r == 0)
                        r = blocks_finish(blocks, &error);
                assert_int_equal(r, -EIO);
                assert_string_equal(st_error_message(error), "block 3");
                st_error_free(error);
                assert_int_equal(output.n, 3);
                assert_int_equal(output.bytes[0], 0);
                assert_int_equal(output.bytes[1], 7);
                blocks_free(blocks);
                assert_int_equal(states, 0);
                free(output.bytes);
        }
        struct blocks *blocks = NULL;
        struct st_error *error = NULL;
        assert_int_equal(blocks_new(&method, 6 * BLOCK, 4, put_block, NULL, &blocks, &error), -ENOMEM);
        st_error_free(error);
        assert_null(blocks);
        assert_int_equal(states, 0);
        free(data);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trips), cmocka_unit_test(test_incompressible),
                cmocka_unit_test(test_dictionary),  cmocka_unit_test(test_full),
                cmocka_unit_test(test_cancel),      cmocka_unit_test(test_failing_block),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
