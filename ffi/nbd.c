/* A volume as a block device of the kernel: the NBD handshake, and the nbd driver's netlink interface.
 * Netlink, unlike the ioctls, lets requests wait for a server that is being restarted, and gives a device new
 * connections while it is in use. */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>

/* Results besides -errno. */
enum { NBD_PROTOCOL = -100001, NBD_UNKNOWN_EXPORT = -100002, NBD_REFUSED = -100003 };

static uint64_t get64(const unsigned char *at) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | at[i];
    return value;
}
static uint32_t get32(const unsigned char *at) { return (uint32_t)(at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]); }
static uint32_t get16(const unsigned char *at) { return (uint32_t)(at[0] << 8 | at[1]); }
static void put32(unsigned char *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (24 - 8 * i));
}

static int send_all(int fd, const unsigned char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return -errno;
        bytes += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static int take(int fd, unsigned char *bytes, size_t size) {
    while (size > 0) {
        ssize_t got = recv(fd, bytes, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (got == 0) return -ECONNRESET;
        bytes += got;
        size -= (size_t)got;
    }
    return 0;
}

static int connect_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

static int connect_tcp(const char *host, const char *port) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, port, &hints, &found) != 0) return -EHOSTUNREACH;
    int result = -EHOSTUNREACH;
    for (struct addrinfo *at = found; at != NULL && result < 0; at = at->ai_next) {
        int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0) continue;
        if (connect(fd, at->ai_addr, at->ai_addrlen) == 0) {
            int on = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            result = fd;
        } else {
            result = -errno;
            close(fd);
        }
    }
    freeaddrinfo(found);
    return result;
}

/* Chooses the export; out: size in bytes, transmission flags. */
static int negotiate(int fd, const char *name, double *out) {
    unsigned char bytes[4096];
    int result = take(fd, bytes, 18);
    if (result < 0) return result;
    if (memcmp(bytes, "NBDMAGICIHAVEOPT", 16) != 0 || (get16(bytes + 16) & 1) == 0) return NBD_PROTOCOL;
    uint32_t name_size = (uint32_t)strlen(name);
    if (name_size > 1024) return -ENAMETOOLONG;
    /* Client flags: fixed newstyle, no zeroes. Then GO, without wishes for more information. */
    put32(bytes, 3);
    memcpy(bytes + 4, "IHAVEOPT", 8);
    put32(bytes + 12, 7);
    put32(bytes + 16, 4 + name_size + 2);
    put32(bytes + 20, name_size);
    memcpy(bytes + 24, name, name_size);
    memset(bytes + 24 + name_size, 0, 2);
    result = send_all(fd, bytes, 24 + name_size + 2);
    int has_size = 0;
    while (result == 0) {
        result = take(fd, bytes, 20);
        if (result < 0) return result;
        if (get64(bytes) != 0x3e889045565a9ull || get32(bytes + 8) != 7) return NBD_PROTOCOL;
        uint32_t type = get32(bytes + 12), size = get32(bytes + 16);
        if (size > sizeof bytes) return NBD_PROTOCOL;
        result = take(fd, bytes, size);
        if (result < 0) return result;
        if (type == 1) return has_size ? 0 : NBD_PROTOCOL;
        if (type == 0x80000006u) return NBD_UNKNOWN_EXPORT;
        if (type & 0x80000000u) return NBD_REFUSED;
        if (type == 3 && size >= 12 && get16(bytes) == 0) {
            out[0] = (double)get64(bytes + 2);
            out[1] = get16(bytes + 10);
            has_size = 1;
        }
    }
    return result;
}

/* A negotiated connection that is ready for the kernel; `port` is empty for a unix socket. */
WALB_EXPORT int walb_nbd_open(const char *host, const char *port, const char *name, int timeout_s, double *out) {
    int fd = port[0] == 0 ? connect_unix(host) : connect_tcp(host, port);
    if (fd < 0) return fd;
    struct timeval limit = {.tv_sec = timeout_s}, none = {0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int result = negotiate(fd, name, out);
    if (result < 0) {
        close(fd);
        return result;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
    return fd;
}

WALB_EXPORT void walb_nbd_close(int fd) { close(fd); }

/* Waits until a connection is over, without reading from it, as that is up to the kernel. Those that are over are closed
 * and become -1. Without a time limit the usual signals end the process meanwhile. */
WALB_EXPORT int walb_nbd_wait(int *fds, int count, int timeout_ms) {
    struct pollfd polled[64];
    if (count < 1 || count > 64) return -EINVAL;
    if (timeout_ms < 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        signal(SIGHUP, SIG_IGN);
    }
    for (int i = 0; i < count; i++) polled[i] = (struct pollfd){.fd = fds[i], .events = POLLRDHUP};
    int ready;
    do ready = poll(polled, (nfds_t)count, timeout_ms);
    while (ready < 0 && errno == EINTR);
    if (ready < 0) return -errno;
    for (int i = 0; i < count; i++) {
        if (polled[i].revents == 0) continue;
        close(fds[i]);
        fds[i] = -1;
    }
    return ready;
}

struct message {
    struct nlmsghdr header;
    struct genlmsghdr generic;
    unsigned char attributes[4096];
};

static struct nlattr *put(struct message *message, int type, const void *value, size_t size) {
    struct nlattr *attribute = (struct nlattr *)((unsigned char *)message + NLMSG_ALIGN(message->header.nlmsg_len));
    attribute->nla_type = (uint16_t)type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    if (size > 0) memcpy((unsigned char *)attribute + NLA_HDRLEN, value, size);
    message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + NLA_ALIGN(attribute->nla_len);
    return attribute;
}
static void put_u64(struct message *message, int type, uint64_t value) { put(message, type, &value, sizeof value); }

static struct nlattr *open_nest(struct message *message, int type) { return put(message, type | NLA_F_NESTED, NULL, 0); }
static void close_nest(struct message *message, struct nlattr *nest) {
    nest->nla_len = (uint16_t)((unsigned char *)message + message->header.nlmsg_len - (unsigned char *)nest);
}

static void begin(struct message *message, uint16_t family, uint8_t command) {
    memset(message, 0, sizeof *message);
    message->header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
    message->header.nlmsg_type = family;
    message->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    message->generic.cmd = command;
    message->generic.version = 1;
}

/* Sends, and reads up to the acknowledgement; `family` gets the id when the answer has one. */
static int converse(int fd, struct message *message, uint16_t *family) {
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (sendto(fd, message, message->header.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) return -errno;
    for (;;) {
        static unsigned char answer[16384] __attribute__((aligned(NLMSG_ALIGNTO)));
        ssize_t got = recv(fd, answer, sizeof answer, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        int rest = (int)got;
        for (struct nlmsghdr *at = (struct nlmsghdr *)answer; NLMSG_OK(at, rest); at = NLMSG_NEXT(at, rest)) {
            if (at->nlmsg_type == NLMSG_ERROR) return ((struct nlmsgerr *)NLMSG_DATA(at))->error;
            if (family == NULL) continue;
            unsigned char *data = (unsigned char *)NLMSG_DATA(at) + GENL_HDRLEN, *end = (unsigned char *)at + at->nlmsg_len;
            while (data + NLA_HDRLEN <= end) {
                struct nlattr *attribute = (struct nlattr *)data;
                if (attribute->nla_len < NLA_HDRLEN) break;
                if (attribute->nla_type == CTRL_ATTR_FAMILY_ID) memcpy(family, data + NLA_HDRLEN, sizeof *family);
                data += NLA_ALIGN(attribute->nla_len);
            }
        }
    }
}

/* Of linux/nbd-netlink.h, whose older versions lack the last. */
enum { NBD_CONNECT = 1, NBD_DISCONNECT = 2, NBD_RECONFIGURE = 3 };
enum { INDEX = 1, SIZE_BYTES, BLOCK_SIZE_BYTES, TIMEOUT, SERVER_FLAGS, CLIENT_FLAGS, SOCKETS, DEAD_CONN_TIMEOUT, DEVICES, BACKEND };

/* What a device is configured with; times of 0 leave what it has. */
struct nbd_settings {
    double index;
    double size_bytes;
    double block_bytes;
    double flags;
    double request_timeout_s;
    double dead_timeout_s;
};

/* Connects a device, disconnects it, or gives it new connections. 0 or -errno. */
WALB_EXPORT int walb_nbd_configure(int command, const struct nbd_settings *settings, const int *fds, int count,
                                   const char *backend) {
    if (count < 0 || count > 64 || strlen(backend) > 256) return -EINVAL;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    if (fd < 0) return -errno;
    struct message message;
    uint16_t family = 0;
    begin(&message, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    put(&message, CTRL_ATTR_FAMILY_NAME, "nbd", 4);
    int result = converse(fd, &message, &family);
    if (result == 0) {
        begin(&message, family, (uint8_t)command);
        uint32_t index = (uint32_t)settings->index;
        put(&message, INDEX, &index, sizeof index);
        if (command != NBD_DISCONNECT) {
            put_u64(&message, SIZE_BYTES, (uint64_t)settings->size_bytes);
            if (settings->request_timeout_s > 0) put_u64(&message, TIMEOUT, (uint64_t)settings->request_timeout_s);
            if (settings->dead_timeout_s > 0) put_u64(&message, DEAD_CONN_TIMEOUT, (uint64_t)settings->dead_timeout_s);
            if (command == NBD_CONNECT) {
                put_u64(&message, BLOCK_SIZE_BYTES, (uint64_t)settings->block_bytes);
                put_u64(&message, SERVER_FLAGS, (uint64_t)settings->flags);
            }
            struct nlattr *sockets = count > 0 ? open_nest(&message, SOCKETS) : NULL;
            for (int i = 0; i < count; i++) {
                struct nlattr *item = open_nest(&message, 1);
                uint32_t socket_fd = (uint32_t)fds[i];
                put(&message, 1, &socket_fd, sizeof socket_fd);
                close_nest(&message, item);
            }
            if (sockets != NULL) close_nest(&message, sockets);
            if (backend[0] != 0) put(&message, BACKEND, backend, strlen(backend) + 1);
        }
        result = converse(fd, &message, NULL);
    }
    close(fd);
    return result;
}
