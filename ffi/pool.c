/*
 * The job pool: two lanes of threads (fast: reads, writes, codecs; slow: syncs, copies, metadata, ioctls, which must
 * not starve the others), job slots that JavaScript fills, and one coalesced byte on a socketpair as wake-up. What a job
 * does is in job.c.
 */
#define _GNU_SOURCE
#include "walb.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void walb_block_signals(sigset_t *old);
void walb_restore_signals(const sigset_t *old);

enum { lanes = 2, threads_max = 64, none = 0xffffffff };

struct lane {
    pthread_cond_t more;
    uint32_t head, tail, queued;
    int idle, started, limit;
    int is_waking; /* a thread was signalled and has not looked yet: it wakes the next one if need be */
    pthread_t threads[threads_max];
};

struct pool {
    pthread_mutex_t mutex;
    struct job *slots;
    uint32_t slot_count;
    uint32_t *done; /* completed slots in order, taken by walb_pool_reap */
    uint32_t done_count;
    int is_signalled, is_closing;
    int wake_fd, read_fd;
    struct lane lane[lanes];
};

enum { answer_none = 0, answer_held, answer_over };

/*
 * Behind a job that succeeded its answer goes out at once: whoever waits for it does not wait for the event loop as well.
 * Called and left with the lock held, which is not held while it is sent.
 */
static void answer(struct pool *pool, struct job *job) {
    int is_due = job->answer_state == answer_held && job->result >= 0;
    job->answer_state = answer_over;
    if (!is_due) return;
    pthread_mutex_unlock(&pool->mutex);
    ssize_t sent;
    do {
        sent = send(job->answer_fd, job->answer, job->answer_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    /* What the socket does not take, and why, JavaScript finds out when it sends the rest. */
    job->answer_sent = sent < 0 ? 0 : (int32_t)sent;
    pthread_mutex_lock(&pool->mutex);
}

static void wake(struct pool *pool) {
    /* The buffer takes many bytes and at most one of each thread is outstanding, so it cannot be full. */
    while (send(pool->wake_fd, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR) {
    }
}

/*
 * Waking a thread costs the caller more than most jobs: one at a time is woken, and wakes the next one itself. This tells
 * whether it is to be done, which is for behind the lock: woken inside, the thread would only wait for the lock.
 */
static int claim_wake(struct lane *lane) {
    if (lane->idle == 0 || lane->is_waking) return 0;
    lane->is_waking = 1;
    return 1;
}

struct start {
    struct pool *pool;
    int lane;
};

static void *work(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    struct pool *pool = start.pool;
    struct lane *lane = &pool->lane[start.lane];
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (lane->head == none && !pool->is_closing) {
            lane->idle++;
            pthread_cond_wait(&lane->more, &pool->mutex);
            lane->idle--;
            lane->is_waking = 0;
        }
        if (lane->head == none) break;
        uint32_t slot = lane->head;
        lane->head = pool->slots[slot].next;
        lane->queued--;
        if (lane->head == none) lane->tail = none;
        int is_more = lane->head != none && claim_wake(lane);
        pthread_mutex_unlock(&pool->mutex);
        if (is_more) pthread_cond_signal(&lane->more);
        walb_run_job(&pool->slots[slot]);
        pthread_mutex_lock(&pool->mutex);
        answer(pool, &pool->slots[slot]);
        pool->done[pool->done_count++] = slot;
        if (!pool->is_signalled) {
            pool->is_signalled = 1;
            /* Not under the lock, which JavaScript may be about to take. */
            pthread_mutex_unlock(&pool->mutex);
            wake(pool);
            pthread_mutex_lock(&pool->mutex);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

WALB_EXPORT struct pool *walb_pool_create(uint32_t slot_count, int fast_threads, int slow_threads) {
    struct pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) return NULL;
    int pair[2];
    if (posix_memalign((void **)&pool->slots, 4096, slot_count * sizeof(struct job)) != 0) goto no_slots;
    memset(pool->slots, 0, slot_count * sizeof(struct job));
    pool->done = calloc(slot_count, sizeof(uint32_t));
    if (pool->done == NULL) goto no_done;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) goto no_pair;
    pthread_mutex_init(&pool->mutex, NULL);
    pool->slot_count = slot_count;
    pool->wake_fd = pair[0];
    pool->read_fd = pair[1];
    for (int i = 0; i < lanes; i++) {
        int wanted = i == 0 ? fast_threads : slow_threads;
        pthread_cond_init(&pool->lane[i].more, NULL);
        pool->lane[i].head = pool->lane[i].tail = none;
        pool->lane[i].limit = wanted < 1 ? 1 : wanted > threads_max ? threads_max : wanted;
    }
    return pool;
no_pair:
    free(pool->done);
no_done:
    free(pool->slots);
no_slots:
    free(pool);
    return NULL;
}

WALB_EXPORT void *walb_pool_slots(struct pool *pool) { return pool->slots; }
WALB_EXPORT int walb_pool_fd(struct pool *pool) { return pool->read_fd; }

static int start_thread(struct pool *pool, int index) {
    struct lane *lane = &pool->lane[index];
    struct start *start = malloc(sizeof(*start));
    if (start == NULL) return ENOMEM;
    start->pool = pool;
    start->lane = index;
    sigset_t old;
    walb_block_signals(&old);
    int error = pthread_create(&lane->threads[lane->started], NULL, work, start);
    walb_restore_signals(&old);
    if (error != 0)
        free(start);
    else
        lane->started++;
    return error;
}

/* 0, or an errno when there is no thread to run the job: then it was not taken. */
WALB_EXPORT int walb_pool_submit(struct pool *pool, uint32_t slot) {
    struct job *job = &pool->slots[slot];
    int index = job->lane == 0 ? 0 : 1;
    struct lane *lane = &pool->lane[index];
    job->next = none;
    job->answer_state = answer_none;
    job->answer_sent = -1;
    pthread_mutex_lock(&pool->mutex);
    if (lane->queued >= (uint32_t)lane->idle && lane->started < lane->limit) {
        int error = start_thread(pool, index);
        if (error != 0 && lane->started == 0) {
            pthread_mutex_unlock(&pool->mutex);
            return error;
        }
    }
    if (lane->head == none)
        lane->head = slot;
    else
        pool->slots[lane->tail].next = slot;
    lane->tail = slot;
    lane->queued++;
    int is_idle = claim_wake(lane);
    pthread_mutex_unlock(&pool->mutex);
    if (is_idle) pthread_cond_signal(&lane->more);
    return 0;
}

/* Lets a job that was submitted and not reaped send bytes when it has succeeded. 0 when it is over, or has some. */
WALB_EXPORT int walb_pool_entrust(struct pool *pool, uint32_t slot, int fd, const void *bytes, uint32_t size) {
    struct job *job = &pool->slots[slot];
    if (size > sizeof job->answer) return 0;
    pthread_mutex_lock(&pool->mutex);
    int is_taken = job->answer_state == answer_none;
    if (is_taken) {
        job->answer_state = answer_held;
        job->answer_fd = fd;
        job->answer_size = size;
        memcpy(job->answer, bytes, size);
    }
    pthread_mutex_unlock(&pool->mutex);
    return is_taken;
}

/*
 * 1 when the bytes are not sent, and will not be: also when the job has failed, of which the caller may not know yet. 0
 * when they are being sent, or were.
 */
WALB_EXPORT int walb_pool_withdraw(struct pool *pool, uint32_t slot) {
    struct job *job = &pool->slots[slot];
    pthread_mutex_lock(&pool->mutex);
    int is_held = job->answer_state == answer_held;
    if (is_held) job->answer_state = answer_none;
    int is_unsent = is_held || (job->answer_state == answer_over && job->result < 0);
    pthread_mutex_unlock(&pool->mutex);
    return is_unsent;
}

/* Swaps out the completed slots: their numbers are in `out`. The next completion sends a byte again. */
WALB_EXPORT uint32_t walb_pool_reap(struct pool *pool, uint32_t *out) {
    pthread_mutex_lock(&pool->mutex);
    uint32_t count = pool->done_count;
    memcpy(out, pool->done, count * sizeof(uint32_t));
    pool->done_count = 0;
    pool->is_signalled = 0;
    pthread_mutex_unlock(&pool->mutex);
    return count;
}

/* Ends the threads after the jobs they have; the caller has reaped everything. Slots stay mapped in JavaScript. */
WALB_EXPORT void walb_pool_close(struct pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->is_closing = 1;
    for (int i = 0; i < lanes; i++) pthread_cond_broadcast(&pool->lane[i].more);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < lanes; i++)
        for (int t = 0; t < pool->lane[i].started; t++) pthread_join(pool->lane[i].threads[t], NULL);
    close(pool->wake_fd);
}
