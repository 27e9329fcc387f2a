/* The only program of the guest.
 *
 * It beats: twenty times a second it wakes and notes how late that was, four times a second it writes
 * a line. It wakes no oftener, because an emulated guest takes much CPU time for it. While a guest is
 * stopped its own clock stands still, too, so such a pause is seen by the one clock that does not: the
 * clock of the hardware (RTC), which counts whole seconds.
 * The moment when it turns to the next second is known to a millisecond, as the guest looks at it all
 * the time when it is due. Between two such moments, what the RTC counts more than the own clock is
 * the time that the guest was stopped.
 *
 * It loads its memory: `dirty=` MiB are rewritten, `rate=` MiB a second. About once a second it
 * compares these, and KEPT MiB that it never rewrites, with what should be there.
 *
 * If it has a disk, each beat counts there, too: it reads a counter, compares it with the one in its
 * memory, and writes the next number. So it notices memory that is older than the disk, and a disk
 * that is older than the memory. Each number is also written into one of SLOTS sectors in turn, which
 * are compared with what was written there, one a beat. Then the disk is told to flush its caches. The
 * guest speaks to the disk by the ports of the first IDE channel, for which no driver is needed.
 *
 * The power button ends it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, PAGE = 4096, WORDS = PAGE / sizeof(uint64_t), KEPT = 4, BUTTONS = 8, SECOND = 1000000 };
enum { CHUNK = 16, BATCH = SECOND / 10, LONGEST_PAUSE = 5 * SECOND };

struct tally { volatile unsigned long passes, faults; };

static void power_off(const char *why) {
    puts(why);
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}

static long parameter(const char *name, long otherwise) {
    char line[2048] = " ", key[32];
    FILE *file = fopen("/proc/cmdline", "r");
    if (!file || !fgets(line + 1, sizeof line - 1, file)) return otherwise;
    fclose(file);
    snprintf(key, sizeof key, " %s=", name);
    char *found = strstr(line, key);
    return found ? atol(found + strlen(key)) : otherwise;
}

/* The drivers are named so that their order is that of their names. */
static void load_drivers(void) {
    struct dirent **names;
    int count = scandir("/drivers", &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] == '.') continue;
        char path[300];
        snprintf(path, sizeof path, "/drivers/%s", names[i]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (syscall(SYS_finit_module, fd, "", 0)) perror(path);
        close(fd);
    }
}

static void sleep_for(uint64_t microseconds) {
    struct timespec t = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&t, NULL);
}

static uint64_t own_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static void fill(uint64_t *page, uint64_t seed) {
    for (int i = 0; i < WORDS; i++) page[i] = seed + i;
}

static int differs(const uint64_t *page, uint64_t seed) {
    for (int i = 0; i < WORDS; i++)
        if (page[i] != seed + i) return 1;
    return 0;
}

/* No two pages, and no two passes over one, have the same seed. */
static uint64_t seed_of(uint64_t page, uint64_t pass) {
    return (page + 1) * 0x9E3779B97F4A7C15ull ^ pass * 0xC2B2AE3D27D4EB4Full;
}

/* Pages before `done` have been rewritten in this pass. Returns when the next look is due: looking
   usually takes at most a tenth of the time. A look may wait a minute for pages that a post-copy has
   yet to send, which says nothing about the next one, so the pause after it is short. */
static uint64_t look_at_all(struct tally *tally, uint64_t *memory, uint64_t pages,
                            uint64_t rewritten, uint64_t done, uint64_t pass) {
    uint64_t begin = own_time();
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t *words = memory + page * WORDS;
        uint64_t seed = seed_of(page, page >= rewritten ? 0 : page < done ? pass + 1 : pass);
        if (differs(words, seed)) {
            tally->faults++;
            fill(words, seed);
        }
    }
    tally->passes++;
    uint64_t now = own_time(), pause = 10 * (now - begin);
    if (pause < SECOND / 2) pause = SECOND / 2;
    return now + (pause < LONGEST_PAUSE ? pause : LONGEST_PAUSE);
}

static void load_memory(struct tally *tally, long dirty, long rate) {
    uint64_t rewritten = dirty * MIB / PAGE, pages = rewritten + KEPT * MIB / PAGE;
    uint64_t turn = rewritten ? rewritten : CHUNK; /* with nothing to rewrite it only keeps the time */
    uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) power_off("no memory to load");
    for (uint64_t page = 0; page < pages; page++) fill(memory + page * WORDS, seed_of(page, 0));
    uint64_t due = own_time(), look = due;
    for (uint64_t pass = 0;; pass++) {
        for (uint64_t page = 0; page < turn; page++) {
            if (page % CHUNK == 0 && own_time() >= look)
                look = look_at_all(tally, memory, pages, rewritten, page, pass);
            if (page < rewritten) fill(memory + page * WORDS, seed_of(page, pass + 1));
            if (page % CHUNK == CHUNK - 1) {
                due += 1ull * CHUNK * PAGE * SECOND / (rate * MIB);
                uint64_t now = own_time();
                if (due > now + BATCH) sleep_for(due - now);
                else if (due < now) due = now; /* what was missed is not made up for */
            }
        }
    }
}

static int pressed(const int *buttons) {
    struct input_event event;
    for (int i = 0; i < BUTTONS; i++)
        while (buttons[i] >= 0 && read(buttons[i], &event, sizeof event) == sizeof event)
            if (event.type == EV_KEY && event.code == KEY_POWER) return 1;
    return 0;
}

/* A CPU that was added is the guest's to switch on. */
static void use_all_cpus(void) {
    for (int i = 1; i < 16; i++) {
        char path[64], state = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/online", i);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0) continue;
        if (read(fd, &state, 1) == 1 && state == '0' && pwrite(fd, "1", 1, 0) != 1) perror(path);
        close(fd);
    }
}

enum { WAKE = 50000, SHARP = 2000, MARGIN = 1000, DAY = 86400 };

static int rtc(int which) {
    outb(which, 0x70);
    int digits = inb(0x71);
    return (digits >> 4) * 10 + (digits & 15);
}

static long time_of_day(void) { return rtc(4) * 3600 + rtc(2) * 60 + rtc(0); }

/* All in microseconds of the own clock, but for the RTC's seconds. The first turn is awaited. */
struct clock {
    uint64_t seen;             /* when the RTC was last looked at */
    int second;                /* what it showed */
    uint64_t due, overdue;     /* between which it will turn, unless there is a pause */
    uint64_t measured;         /* when it last turned, known sharply; 0 for never */
    long measured_time;        /* to which time of the day */
    uint64_t gap;              /* by how much a look came too late at most since then */
    uint64_t pause, longest;   /* of the last measurement, and of all */
};

static void turned(struct clock *c, uint64_t before, uint64_t now) {
    c->due = before + SECOND - MARGIN;
    c->overdue = now + SECOND + MARGIN;
    if (now - before > SHARP) return;
    long time = time_of_day();
    if (c->measured) {
        int64_t real = (time - c->measured_time + DAY) % DAY * SECOND;
        int64_t stopped = real - (int64_t)(now - c->measured);
        c->pause = c->gap + (stopped > SHARP ? stopped : 0);
        if (c->pause > c->longest) c->longest = c->pause;
    }
    c->measured = now, c->measured_time = time, c->gap = 0;
}

static void look(struct clock *c, uint64_t planned) {
    uint64_t before = c->seen, now = own_time();
    int second = rtc(0);
    c->seen = now;
    if (now > planned && now - planned > c->gap) c->gap = now - planned;
    if (second != c->second) turned(c, before, now);
    c->second = second;
}

static void sleep_and_look(struct clock *c) {
    uint64_t wake = c->seen + WAKE;
    if (c->due > c->seen && c->due < wake) wake = c->due;
    uint64_t now = own_time();
    if (wake > now) sleep_for(wake - now);
    int second = c->second;
    look(c, wake);
    while (c->second == second && c->due <= c->seen && c->seen < c->overdue) look(c, c->seen);
}

enum { SECTOR = 512, POLL = 50, IDE = 0x1F0, IDE_COUNT = 0x1F2, IDE_DRIVE = 0x1F6, IDE_STATUS = 0x1F7,
       IDE_CONTROL = 0x3F6, BUSY = 0x80, HAS_DATA = 0x08, FAILED = 0x21, READ = 0x20, WRITE = 0x30,
       FLUSH = 0xE7, SLOTS = 63 };

struct disk { int present, begun; unsigned long first, count, stale; };

static int ide_status(void) {
    int status;
    while ((status = inb(IDE_STATUS)) & BUSY) sleep_for(POLL);
    return status;
}

static void order(int command, int number) {
    outb(0xE0, IDE_DRIVE);
    outb(1, IDE_COUNT);
    outb(number, IDE_COUNT + 1);
    for (int port = IDE_COUNT + 2; port < IDE_DRIVE; port++) outb(0, port);
    outb(command, IDE_STATUS);
}

/* One sector. Ends the guest if the disk reports an error. */
static void transfer(int command, int number, uint16_t *words) {
    order(command, number);
    int status = ide_status();
    if (status & FAILED || !(status & HAS_DATA)) power_off("the disk has failed");
    if (command == READ) insw(IDE, words, SECTOR / 2);
    else outsw(IDE, words, SECTOR / 2);
    if (ide_status() & FAILED) power_off("the disk has failed");
}

static void find_disk(struct disk *disk) {
    outb(0xE0, IDE_DRIVE);
    outb(2, IDE_CONTROL); /* no interrupts */
    int status = inb(IDE_STATUS);
    disk->present = status != 0 && status != 0xFF;
}

static uint64_t slot_words[SECTOR / sizeof(uint64_t)];

static int slot_of(unsigned long count) { return 1 + count % SLOTS; }

static void write_slot(unsigned long count) {
    for (int i = 0; i < SECTOR / (int)sizeof(uint64_t); i++) slot_words[i] = seed_of(i, count);
    transfer(WRITE, slot_of(count), (uint16_t *)slot_words);
}

/* Another slot in each beat, among those that were written since the guest began. */
static void check_slot(struct disk *disk) {
    unsigned long written = disk->count - disk->first;
    if (!written) return;
    unsigned long back = 1 + disk->count * 5 % (written < SLOTS ? written : SLOTS);
    unsigned long count = disk->count - back;
    transfer(READ, slot_of(count), (uint16_t *)slot_words);
    for (int i = 0; i < SECTOR / (int)sizeof(uint64_t); i++)
        if (slot_words[i] != seed_of(i, count)) {
            disk->stale++;
            return;
        }
}

static void count_on_disk(struct disk *disk) {
    static union { uint16_t words[SECTOR / 2]; unsigned long count; } sector;
    if (!disk->present) return;
    transfer(READ, 0, sector.words);
    if (disk->begun && sector.count != disk->count) disk->stale++;
    if (!disk->begun) disk->first = sector.count + 1;
    disk->begun = 1;
    disk->count = ++sector.count;
    check_slot(disk);
    write_slot(disk->count);
    transfer(WRITE, 0, sector.words);
    order(FLUSH, 0);
    if (ide_status() & FAILED) power_off("the disk has failed");
}

static double in_seconds(uint64_t microseconds) { return microseconds / 1e6; }

static void beat(const struct tally *tally) {
    int buttons[BUTTONS];
    for (int i = 0; i < BUTTONS; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        buttons[i] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    }
    struct clock clock = {.seen = own_time(), .second = rtc(0), .overdue = UINT64_MAX};
    struct disk disk = {0};
    find_disk(&disk);
    while (!clock.measured) sleep_and_look(&clock);
    uint64_t next = clock.seen;
    for (unsigned long count = 1;;) {
        sleep_and_look(&clock);
        if (pressed(buttons)) power_off("power off");
        if (waitpid(-1, NULL, WNOHANG) > 0) power_off("the load ended: too little memory?");
        if (clock.seen < next) continue;
        next = clock.seen + SECOND / 4;
        use_all_cpus();
        struct sysinfo info;
        sysinfo(&info);
        count_on_disk(&disk);
        printf("beat count=%lu uptime=%.6f measured=%.6f pause=%.6f longest=%.6f passes=%lu "
               "faults=%lu memory=%lu cpus=%ld disk=%lu stale=%lu\n",
               count++, in_seconds(clock.seen), in_seconds(clock.measured), in_seconds(clock.pause),
               in_seconds(clock.longest), tally->passes, tally->faults,
               info.totalram / 1024 * info.mem_unit, sysconf(_SC_NPROCESSORS_ONLN), disk.count,
               disk.stale);
    }
}

/* The kernel lets urgent programs run for at most 95 % of each second, and lets them wait for what they
   ran longer. In a post-copy one may seem to run for minutes: the CPU waits for a page of its memory and
   the guest's clock goes on. Without this, such a guest is silent for as long afterwards. */
static void lift_limit_of_urgent_programs(void) {
    int fd = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "-1", 2) != 2) power_off("the limit of urgent programs stays");
    close(fd);
}

int main(void) {
    mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    lift_limit_of_urgent_programs();
    load_drivers();
    if (iopl(3)) power_off("no access to ports");
    struct tally *tally = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0) {
        setpriority(PRIO_PROCESS, 0, 19);
        load_memory(tally, parameter("dirty", 8), parameter("rate", 8));
    }
    /* Not to be kept waiting by the load. */
    struct sched_param urgent = {.sched_priority = 10};
    sched_setscheduler(0, SCHED_FIFO, &urgent);
    beat(tally);
}
