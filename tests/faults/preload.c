/* Loaded into the bridge in front of libc (LD_PRELOAD): a clock that is wrong, and a name whose address changes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Where the seconds stand that the clock is ahead; mapped, so that a change of the file shows at once. */
static const volatile int64_t *ahead;

__attribute__((constructor)) static void map_clock(void)
{
    const char *path = getenv("FAULTS_CLOCK");
    if (!path)
        return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        perror(path);
        abort();
    }
    close(file);
    ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    /* The system call itself: libc's own function has the name of this one. */
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into)
        *into = exact.tv_sec;
    return exact.tv_sec;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found)
{
    int (*of_libc)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&of_libc = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *name = getenv("FAULTS_NAME"), *path = getenv("FAULTS_ADDRESS");
    char address[64] = "";
    if (!name || !path || !node || strcmp(node, name) != 0)
        return of_libc(node, service, hints, found);
    FILE *file = fopen(path, "re");
    int is_read = file && fgets(address, sizeof address, file);
    if (file)
        fclose(file);
    address[strcspn(address, "\n")] = '\0';
    return is_read ? of_libc(address, service, hints, found) : EAI_AGAIN;
}
