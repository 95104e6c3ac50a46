/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"

#define FILE_LIMIT ((size_t)1 << 20)
#define CA_LIMIT 256 /* certificates */

static void bio_free(BIO **bio) {
        if (*bio)
                (void)openssl.BIO_free(*bio);
}

static void certificate_free(X509 **certificate) {
        if (*certificate)
                openssl.X509_free(*certificate);
}

#define _cleanup_bio_ _cleanup_(bio_free)
#define _cleanup_certificate_ _cleanup_(certificate_free)

/* What OpenSSL says last of what went wrong. */
static const char *reason(void) {
        const char *text = openssl.ERR_reason_error_string(openssl.ERR_peek_last_error());

        openssl.ERR_clear_error();
        return text ? text : "unknown error";
}

/* An encrypted key must not make a daemon ask for a password on its terminal. */
static int no_password(char *buffer, int size, int writing, void *userdata) {
        (void)buffer;
        (void)size;
        (void)writing;
        *(bool *)userdata = true;
        return -1;
}

static int open_file(const char *key, const char *path, struct stat *ret, struct st_error **err) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        if (fd < 0 || fstat(fd, ret) < 0)
                return st_error_errno(err, errno, "%s: cannot open %s", key, path);
        if (!S_ISREG(ret->st_mode))
                return st_error_set(err, EINVAL, "%s: %s is not a regular file", key, path);
        return TAKE_FD(fd);
}

/* @return the content of an open file as a BIO that uses *ret_text; NULL with err */
static BIO *read_file(int fd, const char *key, const char *path, char **ret_text, struct st_error **err) {
        _cleanup_free_ char *link = xasprintf("/proc/self/fd/%d", fd);
        size_t size;
        BIO *bio;
        int r = io_read_file(AT_FDCWD, link, FILE_LIMIT, ret_text, &size);

        if (r < 0) {
                st_error_errno(err, r, "%s: cannot read %s", key, path);
                return NULL;
        }
        bio = openssl.BIO_new_mem_buf(*ret_text, (int)size);
        if (!bio)
                st_error_set(err, ENOMEM, "%s: no memory for %s", key, path);
        return bio;
}

/* A certificate that nobody accepts any more is better known now than by the refusals of others. */
static int check_dates(const X509 *certificate, const char *path, struct st_error **err) {
        if (openssl.X509_cmp_current_time(openssl.X509_get0_notAfter(certificate)) < 0) {
                st_error_set(err, EKEYEXPIRED, "TLS.Cert: the certificate in %s has expired", path);
                st_error_hint(err, "replace it by a new one");
                return -EKEYEXPIRED;
        }
        if (openssl.X509_cmp_current_time(openssl.X509_get0_notBefore(certificate)) > 0) {
                st_error_set(err, EKEYEXPIRED, "TLS.Cert: the certificate in %s is not valid yet", path);
                st_error_hint(err, "is the clock of this machine right?");
                return -EKEYEXPIRED;
        }
        return 0;
}

static int bad_pem(const char *key, const char *path, struct st_error **err) {
        return st_error_set(err, EBADMSG, "%s: no certificate in PEM can be read from %s: %s", key, path, reason());
}

static int load_cert(SSL_CTX *context, const char *path, struct st_error **err) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        _cleanup_bio_ BIO *bio = NULL;
        _cleanup_certificate_ X509 *first = NULL;
        struct stat st;

        fd = open_file("TLS.Cert", path, &st, err);
        if (fd < 0)
                return fd;
        bio = read_file(fd, "TLS.Cert", path, &text, err);
        if (!bio)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        first = openssl.PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!first || openssl.SSL_CTX_use_certificate(context, first) != 1)
                return bad_pem("TLS.Cert", path, err);
        for (;;) {
                _cleanup_certificate_ X509 *next = openssl.PEM_read_bio_X509(bio, NULL, NULL, NULL);

                if (!next)
                        break;
                if (openssl.SSL_CTX_ctrl(context, SSL_CTRL_CHAIN_CERT, 1, next) != 1)
                        return bad_pem("TLS.Cert", path, err);
        }
        openssl.ERR_clear_error(); /* of the end of the file */
        return check_dates(first, path, err);
}

/* Whoever can read the key is who it says. */
static int check_key_file(const struct stat *st, const char *path, struct st_error **err) {
        if ((st->st_uid == 0 || st->st_uid == geteuid()) && (st->st_mode & 077) == 0)
                return 0;
        st_error_set(err, EPERM, "TLS.Key: %s has owner uid %u and mode %04o, but must be readable by nobody but %s",
                     path, st->st_uid, st->st_mode & 07777, geteuid() == 0 ? "root" : "you");
        st_error_hint(err, "chown %s %s && chmod 600 %s; if others could read it, make a new key",
                      geteuid() == 0 ? "root" : "YOU", path, path);
        return -EPERM;
}

static int load_key(SSL_CTX *context, const struct rpc_tls_files *files, struct st_error **err) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        _cleanup_bio_ BIO *bio = NULL;
        bool encrypted = false;
        struct stat st;
        EVP_PKEY *key;
        int r;

        fd = open_file("TLS.Key", files->key, &st, err);
        if (fd < 0)
                return fd;
        r = check_key_file(&st, files->key, err);
        if (r < 0)
                return r;
        bio = read_file(fd, "TLS.Key", files->key, &text, err);
        if (!bio)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        key = openssl.PEM_read_bio_PrivateKey(bio, NULL, no_password, &encrypted);
        explicit_bzero(text, strlen(text));
        if (!key && encrypted) {
                st_error_set(err, EBADMSG, "TLS.Key: the key in %s is encrypted", files->key);
                st_error_hint(err, "store it without a password, in a file that only root can read");
                return -EBADMSG;
        }
        if (!key)
                return st_error_set(err, EBADMSG, "TLS.Key: no private key in PEM can be read from %s: %s", files->key,
                                    reason());
        r = openssl.SSL_CTX_use_PrivateKey(context, key);
        openssl.EVP_PKEY_free(key);
        if (r != 1 || openssl.SSL_CTX_check_private_key(context) != 1) {
                openssl.ERR_clear_error();
                return st_error_set(err, EINVAL,
                                    "the key in %s (TLS.Key) does not belong to the certificate in %s (TLS.Cert)",
                                    files->key, files->cert);
        }
        return 0;
}

static int load_ca(SSL_CTX *context, const char *path, struct st_error **err) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        _cleanup_bio_ BIO *bio = NULL;
        struct stat st;
        unsigned n = 0;

        fd = open_file("TLS.CA", path, &st, err);
        if (fd < 0)
                return fd;
        bio = read_file(fd, "TLS.CA", path, &text, err);
        if (!bio)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        for (; n < CA_LIMIT; n++) {
                _cleanup_certificate_ X509 *ca = openssl.PEM_read_bio_X509(bio, NULL, NULL, NULL);

                if (!ca)
                        break;
                if (openssl.X509_STORE_add_cert(openssl.SSL_CTX_get_cert_store(context), ca) != 1 ||
                    openssl.SSL_CTX_add_client_CA(context, ca) != 1)
                        return bad_pem("TLS.CA", path, err);
        }
        if (n == 0)
                return bad_pem("TLS.CA", path, err);
        openssl.ERR_clear_error();
        return 0;
}

static int check_named(const char *key, const char *variable, const char *path, struct st_error **err) {
        if (!isempty(path))
                return 0;
        st_error_set(err, EINVAL, "TCP needs mutual TLS, but %s is not set", key);
        st_error_hint(err, "set TLS.Cert, TLS.Key and TLS.CA in the configuration (or %s …)", variable);
        return -EINVAL;
}

int tls_files_load(SSL_CTX *context, const struct rpc_tls_files *files, struct st_error **err) {
        int r = check_named("TLS.Cert", "STASIS_TLS_CERT", files->cert, err);

        if (r >= 0)
                r = check_named("TLS.Key", "STASIS_TLS_KEY", files->key, err);
        if (r >= 0)
                r = check_named("TLS.CA", "STASIS_TLS_CA", files->ca, err);
        if (r >= 0)
                r = load_cert(context, files->cert, err);
        if (r >= 0)
                r = load_key(context, files, err);
        if (r >= 0)
                r = load_ca(context, files->ca, err);
        return r;
}
