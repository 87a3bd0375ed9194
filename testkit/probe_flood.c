// Sends requests to a probe server from many loopback addresses, at a fixed rate that does not depend on the answers.
//
// Usage: probe_flood PORT ADDRESSES RATE SECONDS PATH KIND
//
// KIND is "ask" (read the answer and close) or a way to hold the connection: send nothing ("silent"), send half of a
// request ("half"), or send all of it and read nothing, with the smallest receive buffer ("unread").
// The program prints one line of JSON.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HELD = 16384, EVENTS = 256 };

static double now(void) {
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec + moment.tv_nsec / 1e9;
}

int main(int count, char **argument) {
    if (count != 7) return 2;
    int port = atoi(argument[1]), addresses = atoi(argument[2]);
    double rate = atof(argument[3]), seconds = atof(argument[4]);
    char *kind = argument[6];
    int half = !strcmp(kind, "half"), silent = !strcmp(kind, "silent"), unread = !strcmp(kind, "unread");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    long limit = files.rlim_cur > MAX_HELD + 64 ? MAX_HELD : (long)files.rlim_cur - 64;

    char request[512], page[65536];
    int length = silent ? 0 : snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n%s", argument[5], half ? "" : "\r\n");
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &server.sin_addr);
    int poll = epoll_create1(0);
    long held = 0, started = 0, answered = 0, closed = 0, skipped = 0;
    double begin = now(), end = begin + seconds;
    struct epoll_event events[EVENTS];
    for (double moment = begin; moment < end; moment = now()) {
        for (long due = (long)((moment - begin) * rate); started + skipped < due;) {
            if (held >= limit) { skipped++; continue; }
            int sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            // From 127.1.0.1 on, so that no prober has an address of the flood.
            struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f010001 + started % addresses)};
            int yes = 1;
            setsockopt(sock, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &yes, sizeof yes);
            if (unread) setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &yes, sizeof yes);
            started++;
            if (sock < 0 || bind(sock, (void *)&source, sizeof source) ||
                (connect(sock, (void *)&server, sizeof server) && errno != EINPROGRESS)) {
                closed++;
                if (sock >= 0) close(sock);
                continue;
            }
            struct epoll_event event = {.events = EPOLLOUT, .data.fd = sock};
            epoll_ctl(poll, EPOLL_CTL_ADD, sock, &event);
            held++;
        }
        int ready = epoll_wait(poll, events, EVENTS, 1);
        for (int index = 0; index < ready; index++) {
            int sock = events[index].data.fd, over = events[index].events & (EPOLLERR | EPOLLHUP);
            if (!over && events[index].events & EPOLLOUT) {
                over = length && send(sock, request, length, MSG_NOSIGNAL) != length;
                struct epoll_event event = {.events = unread ? 0 : EPOLLIN, .data.fd = sock};
                epoll_ctl(poll, EPOLL_CTL_MOD, sock, &event);
            } else if (events[index].events & EPOLLIN) {
                long got = recv(sock, page, sizeof page, 0);
                if (got > 0) answered += !strncmp(page, "HTTP/1.1", 8);
                if (got > 0 || (got < 0 && errno == EAGAIN)) continue;
                over = 1;
            }
            if (over) { close(sock); closed++; held--; }
        }
    }
    printf("{\"started\": %ld, \"answered\": %ld, \"closed\": %ld, \"held\": %ld, \"skipped\": %ld}\n",
           started, answered, closed, held, skipped);
    return 0;
}
