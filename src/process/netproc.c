/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "process/parse.h"
#include "process/sockdiag.h"

/* "0100007F:1F90": each 8 digits are a word of the address in network order, printed as a number of the host's. */
static int parse_end(char *text, size_t words, uint8_t address[16], uint16_t *port) {
        char *number = strchr(text, ':');
        uint64_t value;

        if (!number || (size_t)(number - text) != words * 8)
                return -EBADMSG;
        *number++ = 0;
        for (size_t i = 0; i < words; i++) {
                char group[9] = "";

                memcpy(group, text + i * 8, 8);
                if (parse_number(group, 16, UINT32_MAX, &value) < 0)
                        return -EBADMSG;
                memcpy(address + i * 4, &(uint32_t){ (uint32_t)value }, 4);
        }
        if (parse_number(number, 16, UINT16_MAX, &value) < 0)
                return -EBADMSG;
        *port = (uint16_t)value;
        return 0;
}

/* proc_pid_net(5): "sl: local remote st tx:rx tr:when retransmits uid timeout inode …" */
static int parse_inet(enum socket_kind kind, char *line, struct socket_facts *facts) {
        enum { SLOT, LOCAL, REMOTE, STATE, INODE = 9, COUNT };
        bool v4 = kind & (SOCKET_TCP4 | SOCKET_UDP4);
        char *words[COUNT];
        uint64_t state, inode;

        for (size_t i = 0; i < COUNT; i++)
                if (!(words[i] = parse_word(&line)))
                        return -EBADMSG;
        if (parse_end(words[LOCAL], v4 ? 1 : 4, facts->local, &facts->local_port) < 0 ||
            parse_end(words[REMOTE], v4 ? 1 : 4, facts->remote, &facts->remote_port) < 0 ||
            parse_number(words[STATE], 16, UINT8_MAX, &state) < 0 ||
            parse_number(words[INODE], 10, UINT64_MAX, &inode) < 0 || inode == 0)
                return -EBADMSG;
        facts->inode = inode;
        facts->state = (unsigned)state;
        facts->family = v4 ? AF_INET : AF_INET6;
        facts->type = kind & (SOCKET_TCP4 | SOCKET_TCP6) ? SOCK_STREAM : SOCK_DGRAM;
        return 0;
}

/* "Num: RefCount Protocol Flags Type St Inode Path": the path may hold blanks; abstract ones begin with "@". */
static int parse_unix(char *line, struct socket_facts *facts) {
        enum { NUMBER, FLAGS = 3, TYPE, STATE, INODE, COUNT };
        const uint64_t listening = 1 << 16; /* __SO_ACCEPTCON, include/uapi/linux/net.h */
        const uint64_t connected = 3;       /* SS_CONNECTED, ibid. */
        uint64_t flags, type, state, inode;
        char *words[COUNT];

        for (size_t i = 0; i < COUNT; i++)
                if (!(words[i] = parse_word(&line)))
                        return -EBADMSG;
        if (parse_number(words[FLAGS], 16, UINT32_MAX, &flags) < 0 ||
            parse_number(words[TYPE], 16, UINT16_MAX, &type) < 0 ||
            parse_number(words[STATE], 16, UINT8_MAX, &state) < 0 ||
            parse_number(words[INODE], 10, UINT64_MAX, &inode) < 0 || inode == 0)
                return -EBADMSG;
        facts->inode = inode;
        facts->family = AF_UNIX;
        facts->type = (unsigned)type;
        facts->connected = facts->peer_unknown = state == connected;
        facts->state = flags & listening ? TCP_LISTEN : facts->connected ? TCP_ESTABLISHED : TCP_CLOSE;
        facts->name_length = strlen(line);
        facts->name = *line ? line : NULL;
        return 0;
}

void netproc_parse(enum socket_kind kind, const char *text, socket_fn report, void *userdata) {
        _cleanup_free_ char *copy = xstrdup(text);
        char *cursor = copy, *line;

        while ((line = parse_line(&cursor))) {
                struct socket_facts facts = { 0 };
                int r = kind == SOCKET_UNIX ? parse_unix(line, &facts) : parse_inet(kind, line, &facts);

                if (r == 0)
                        report(&facts, userdata);
        }
}

static const char *file_of(enum socket_kind kind) {
        switch (kind) {
        case SOCKET_TCP4:
                return "net/tcp";
        case SOCKET_TCP6:
                return "net/tcp6";
        case SOCKET_UDP4:
                return "net/udp";
        case SOCKET_UDP6:
                return "net/udp6";
        default:
                return "net/unix";
        }
}

int netproc_read(pid_t pid, enum socket_kind kind, socket_fn report, void *userdata) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        int r = proc_read_file(pid, file_of(kind), &text, &size);
        if (r < 0)
                return r;
        netproc_parse(kind, text, report, userdata);
        return 0;
}
