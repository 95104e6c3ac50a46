/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * OpenSSL, loaded when TLS is used first. Linked in it would cost every command more than it takes otherwise: 1.2 ms
 * of 1.7 ms (`stasis --help`, measured), for the relocations and constructors of libcrypto.
 */

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <stasis/error.h>

/** What of it is used: functions only, what the headers define as macros is called by its function (SSL_CTX_ctrl). */
#define OPENSSL_FUNCTIONS(F)             \
        F(ASN1_STRING_to_UTF8)           \
        F(BIO_free)                      \
        F(BIO_new_mem_buf)               \
        F(CRYPTO_free)                   \
        F(ERR_clear_error)               \
        F(ERR_get_error)                 \
        F(ERR_peek_last_error)           \
        F(ERR_reason_error_string)       \
        F(EVP_PKEY_free)                 \
        F(PEM_read_bio_PrivateKey)       \
        F(PEM_read_bio_X509)             \
        F(SSL_CTX_add_client_CA)         \
        F(SSL_CTX_check_private_key)     \
        F(SSL_CTX_ctrl)                  \
        F(SSL_CTX_free)                  \
        F(SSL_CTX_get_cert_store)        \
        F(SSL_CTX_new)                   \
        F(SSL_CTX_set_alpn_protos)       \
        F(SSL_CTX_set_alpn_select_cb)    \
        F(SSL_CTX_set_num_tickets)       \
        F(SSL_CTX_set_options)           \
        F(SSL_CTX_set_verify)            \
        F(SSL_CTX_use_PrivateKey)        \
        F(SSL_CTX_use_certificate)       \
        F(SSL_ctrl)                      \
        F(SSL_do_handshake)              \
        F(SSL_free)                      \
        F(SSL_get0_alpn_selected)        \
        F(SSL_get0_param)                \
        F(SSL_get1_peer_certificate)     \
        F(SSL_get_error)                 \
        F(SSL_get_verify_result)         \
        F(SSL_new)                       \
        F(SSL_peek)                      \
        F(SSL_read)                      \
        F(SSL_select_next_proto)         \
        F(SSL_set1_host)                 \
        F(SSL_set_accept_state)          \
        F(SSL_set_connect_state)         \
        F(SSL_set_fd)                    \
        F(SSL_shutdown)                  \
        F(SSL_write)                     \
        F(TLS_client_method)             \
        F(TLS_server_method)             \
        F(X509_NAME_ENTRY_get_data)      \
        F(X509_NAME_get_entry)           \
        F(X509_NAME_get_index_by_NID)    \
        F(X509_STORE_add_cert)           \
        F(X509_VERIFY_PARAM_set1_ip_asc) \
        F(X509_cmp_current_time)         \
        F(X509_free)                     \
        F(X509_get0_notAfter)            \
        F(X509_get0_notBefore)           \
        F(X509_get_subject_name)         \
        F(X509_verify_cert_error_string)

struct openssl {
#define OPENSSL_MEMBER(name) __typeof__(name) *name;
        OPENSSL_FUNCTIONS(OPENSSL_MEMBER)
#undef OPENSSL_MEMBER
};

/** Filled by openssl_load(), constant afterwards. */
extern struct openssl openssl;

/** Loads the library, once; any thread. @return 0; -ENOPKG with err when it is not installed */
int openssl_load(struct st_error **err);
