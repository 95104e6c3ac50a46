/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/tls_files.h"

#define CN_LIMIT 256

struct rpc_tls {
        SSL_CTX *context;
};

struct tls_transport {
        struct rpc_transport transport; /* first */
        SSL *ssl;
        bool established, failed;
};

/* The list of protocols as ALPN writes it (RFC 7301, 3.1). */
static const unsigned char alpn_h2[] = { 2, 'h', '2' };

static int select_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_size, const unsigned char *offered,
                       unsigned int size, void *userdata) {
        (void)ssl;
        (void)userdata;
        if (openssl.SSL_select_next_proto((unsigned char **)ret, ret_size, alpn_h2, sizeof(alpn_h2), offered, size) !=
            OPENSSL_NPN_NEGOTIATED)
                return SSL_TLSEXT_ERR_ALERT_FATAL;
        return SSL_TLSEXT_ERR_OK;
}

static int new_context(bool server, SSL_CTX **ret, struct st_error **err) {
        SSL_CTX *context = openssl.SSL_CTX_new(server ? openssl.TLS_server_method() : openssl.TLS_client_method());
        const long modes =
                SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS;

        if (!context)
                return st_error_set(err, ENOMEM, "cannot set up TLS");
        (void)openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
        (void)openssl.SSL_CTX_ctrl(context, SSL_CTRL_MODE, modes, NULL);
        (void)openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
        (void)openssl.SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
        openssl.SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        if (server) {
                (void)openssl.SSL_CTX_set_num_tickets(context, 0);
                openssl.SSL_CTX_set_alpn_select_cb(context, select_alpn, NULL);
        } else if (openssl.SSL_CTX_set_alpn_protos(context, alpn_h2, sizeof(alpn_h2)) != 0) {
                openssl.SSL_CTX_free(context);
                return st_error_set(err, ENOMEM, "cannot set up TLS");
        }
        *ret = context;
        return 0;
}

int rpc_tls_new(const struct rpc_tls_files *files, bool server, struct rpc_tls **ret, struct st_error **err) {
        _cleanup_(rpc_tls_freep) struct rpc_tls *tls = NEW(struct rpc_tls);
        int r = openssl_load(err);

        if (r >= 0)
                r = new_context(server, &tls->context, err);
        if (r >= 0)
                r = tls_files_load(tls->context, files, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(tls);
        return 0;
}

struct rpc_tls *rpc_tls_free(struct rpc_tls *tls) {
        if (!tls)
                return NULL;
        if (tls->context)
                openssl.SSL_CTX_free(tls->context);
        free(tls);
        return NULL;
}

/* What the reasons of OpenSSL mean to whoever reads them. */
static const struct {
        int reason;
        const char *text;
} reasons[] = {
        { SSL_R_HTTP_REQUEST, "it speaks plain HTTP, not TLS" },
        { SSL_R_NO_APPLICATION_PROTOCOL, "it does not speak HTTP/2 (ALPN h2)" },
        { SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "it shows no certificate" },
        { SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "it refuses our certificate" },
        { SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "it refuses our certificate: expired, or not valid yet" },
        { SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, "it refuses our certificate: revoked" },
        { SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "it refuses our certificate" },
        { SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, "it refuses the handshake" },
        { SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, "it refuses our certificate: not made for this purpose" },
        { SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "it demands a certificate of ours" },
        { SSL_R_TLSV1_ALERT_ACCESS_DENIED, "it refuses our certificate" },
        { SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, "it does not speak HTTP/2 (ALPN h2)" },
        { SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "it does not speak TLS 1.2 or 1.3" },
        { SSL_R_TLSV1_ALERT_UNKNOWN_CA, "it refuses our certificate: not signed by a CA that it knows" },
        { SSL_R_UNEXPECTED_EOF_WHILE_READING, "it closed the connection" },
        { SSL_R_UNSUPPORTED_PROTOCOL, "it does not speak TLS 1.2 or 1.3" },
        { SSL_R_WRONG_VERSION_NUMBER, "it does not speak TLS" },
};

/* The error of a call of OpenSSL that failed with SSL_ERROR_SSL or SSL_ERROR_SYSCALL. */
static int describe(const struct tls_transport *tls, int number, struct st_error **err) {
        unsigned long code = openssl.ERR_get_error();
        const char *text;

        openssl.ERR_clear_error();
        if (code == 0)
                return number == 0 ? st_error_set(err, ECONNRESET, "it closed the connection")
                                   : st_error_errno(err, number, "the connection broke");
        if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
                return st_error_set(err, EACCES, "its certificate is not acceptable: %s",
                                    openssl.X509_verify_cert_error_string(openssl.SSL_get_verify_result(tls->ssl)));
        for (size_t i = 0; i < ELEMENTSOF(reasons); i++)
                if (reasons[i].reason == ERR_GET_REASON(code))
                        return st_error_set(
                                err, reasons[i].reason == SSL_R_UNEXPECTED_EOF_WHILE_READING ? ECONNRESET : EACCES,
                                "%s", reasons[i].text);
        text = openssl.ERR_reason_error_string(code);
        return st_error_set(err, EPROTO, "TLS failed: %s", text ? text : "unknown error");
}

/* After a call of OpenSSL that gave n <= 0. @return 0: the peer has ended; POLLIN, POLLOUT: wait; -errno with err */
static int outcome(struct tls_transport *tls, int n, int number, struct st_error **err) {
        switch (openssl.SSL_get_error(tls->ssl, n)) {
        case SSL_ERROR_WANT_READ:
                return POLLIN;
        case SSL_ERROR_WANT_WRITE:
                return POLLOUT;
        case SSL_ERROR_ZERO_RETURN:
                return 0;
        default:
                tls->failed = true;
                return describe(tls, number, err);
        }
}

static ssize_t tls_receive(struct rpc_transport *transport, void *buffer, size_t n) {
        struct tls_transport *tls = (struct tls_transport *)transport;
        struct st_error *error = NULL;
        int done, r;

        transport->receive_needs_write = false;
        if (tls->failed)
                return -ECONNRESET;
        openssl.ERR_clear_error();
        errno = 0;
        done = openssl.SSL_read(tls->ssl, buffer, n > INT_MAX ? INT_MAX : (int)n);
        if (done > 0)
                return done;
        r = outcome(tls, done, errno, &error);
        if (r < 0) {
                st_error_free(transport->error);
                transport->error = error;
                return -ECONNRESET;
        }
        transport->receive_needs_write = r == POLLOUT;
        return r == 0 ? 0 : -EAGAIN;
}

static ssize_t tls_send(struct rpc_transport *transport, const void *buffer, size_t n) {
        struct tls_transport *tls = (struct tls_transport *)transport;
        int done, r;

        if (tls->failed)
                return -EPIPE;
        openssl.ERR_clear_error();
        errno = 0;
        done = openssl.SSL_write(tls->ssl, buffer, n > INT_MAX ? INT_MAX : (int)n);
        if (done > 0)
                return done;
        if (openssl.SSL_get_error(tls->ssl, done) == SSL_ERROR_SYSCALL && (errno == EPIPE || errno == ECONNRESET)) {
                openssl.ERR_clear_error();
                return -EPIPE; /* what the peer said before is still to be received */
        }
        r = outcome(tls, done, errno, NULL);
        return r > 0 ? -EAGAIN : -EPIPE;
}

static void tls_free(struct rpc_transport *transport) {
        struct tls_transport *tls = (struct tls_transport *)transport;

        if (tls->ssl && tls->established && !tls->failed)
                (void)openssl.SSL_shutdown(tls->ssl); /* says that this end is ours; once, and only if it fits */
        if (tls->ssl)
                openssl.SSL_free(tls->ssl);
        close(transport->fd);
        free(tls);
}

/* The certificate must be for this name or address; a name is sent along (SNI), too. */
static int expect_host(SSL *ssl, const char *host) {
        unsigned char address[sizeof(struct in6_addr)];

        if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
                return openssl.X509_VERIFY_PARAM_set1_ip_asc(openssl.SSL_get0_param(ssl), host) == 1;
        return openssl.SSL_set1_host(ssl, host) == 1 &&
               openssl.SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)host) == 1;
}

int rpc_tls_open(struct rpc_tls *tls, int fd, const char *host, struct rpc_transport **ret, struct st_error **err) {
        struct tls_transport *made = NEW(struct tls_transport);

        made->transport =
                (struct rpc_transport){ .fd = fd, .receive = tls_receive, .send = tls_send, .free = tls_free };
        made->ssl = openssl.SSL_new(tls->context);
        if (!made->ssl || openssl.SSL_set_fd(made->ssl, fd) != 1 || (host && !expect_host(made->ssl, host))) {
                rpc_transport_free(&made->transport);
                return st_error_set(err, ENOMEM, "cannot set up a TLS connection");
        }
        if (host)
                openssl.SSL_set_connect_state(made->ssl);
        else
                openssl.SSL_set_accept_state(made->ssl);
        *ret = &made->transport;
        return 0;
}

int rpc_tls_handshake(struct rpc_transport *transport, int *ret_events, struct st_error **err) {
        struct tls_transport *tls = (struct tls_transport *)transport;
        const unsigned char *protocol = NULL;
        unsigned int size = 0;
        int r;

        openssl.ERR_clear_error();
        errno = 0;
        r = openssl.SSL_do_handshake(tls->ssl);
        if (r == 1) {
                openssl.SSL_get0_alpn_selected(tls->ssl, &protocol, &size);
                if (size != 2 || memcmp(protocol, "h2", 2) != 0) {
                        tls->failed = true;
                        return st_error_set(err, EPROTO, "it does not speak HTTP/2 (ALPN h2)");
                }
                tls->established = true;
                return 0;
        }
        r = outcome(tls, r, errno, err);
        if (r == 0)
                return st_error_set(err, ECONNRESET, "it closed the connection");
        if (r > 0)
                *ret_events = r;
        return r > 0 ? 1 : r;
}

int rpc_tls_confirmed(struct rpc_transport *transport, int *ret_events, struct st_error **err) {
        struct tls_transport *tls = (struct tls_transport *)transport;
        char byte;
        int r;

        openssl.ERR_clear_error();
        errno = 0;
        r = openssl.SSL_peek(tls->ssl, &byte, 1);
        if (r == 1)
                return 0;
        r = outcome(tls, r, errno, err);
        if (r == 0)
                return st_error_set(err, ECONNRESET, "it closed the connection");
        if (r > 0)
                *ret_events = r;
        return r > 0 ? 1 : r;
}

/* The one CN of a name; a NUL in it would make two readers see two names. */
static char *common_name(const X509 *certificate) {
        const X509_NAME *name = openssl.X509_get_subject_name(certificate);
        int index = openssl.X509_NAME_get_index_by_NID(name, NID_commonName, -1);
        unsigned char *text = NULL;
        char *copy = NULL;
        int n;

        if (index < 0 || openssl.X509_NAME_get_index_by_NID(name, NID_commonName, index) >= 0)
                return NULL;
        n = openssl.ASN1_STRING_to_UTF8(&text,
                                        openssl.X509_NAME_ENTRY_get_data(openssl.X509_NAME_get_entry(name, index)));
        if (n > 0 && n <= CN_LIMIT && !memchr(text, 0, (size_t)n))
                copy = xstrndup((const char *)text, (size_t)n);
        openssl.CRYPTO_free(text, __FILE__, __LINE__);
        return copy;
}

char *rpc_tls_peer_name(const struct rpc_transport *transport) {
        const struct tls_transport *tls = (const struct tls_transport *)transport;
        X509 *certificate = openssl.SSL_get1_peer_certificate(tls->ssl);
        char *name;

        if (!certificate)
                return NULL;
        name = common_name(certificate);
        openssl.X509_free(certificate);
        return name;
}
