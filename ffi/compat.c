/*
 * Keeps the shim loadable where Bun itself is (glibc 2.17): the thread symbols that newer glibc versions gave new
 * versions are bound to their old ones, and the few C++ runtime symbols of snappy are defined here, so that libstdc++
 * is not needed.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__x86_64__)
#define OLD "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLD "GLIBC_2.17"
#else
#error "unsupported processor"
#endif

int old_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int old_pthread_join(pthread_t, void **);
int old_pthread_sigmask(int, const sigset_t *, sigset_t *);
int old_pthread_once(pthread_once_t *, void (*)(void));
__asm__(".symver old_pthread_create,pthread_create@" OLD);
__asm__(".symver old_pthread_join,pthread_join@" OLD);
__asm__(".symver old_pthread_sigmask,pthread_sigmask@" OLD);
__asm__(".symver old_pthread_once,pthread_once@" OLD);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    return old_pthread_create(thread, attributes, run, argument);
}
int __wrap_pthread_join(pthread_t thread, void **result) { return old_pthread_join(thread, result); }
int __wrap_pthread_once(pthread_once_t *once, void (*run)(void)) { return old_pthread_once(once, run); }

/* Signals are for the JavaScript thread only: threads inherit the mask of their start. */
void walb_block_signals(sigset_t *old) {
    sigset_t all;
    sigfillset(&all);
    old_pthread_sigmask(SIG_SETMASK, &all, old);
}
void walb_restore_signals(const sigset_t *old) { old_pthread_sigmask(SIG_SETMASK, old, NULL); }

void *allocate(size_t size) __asm__("_Znwm");
void *allocate_array(size_t size) __asm__("_Znam");
void release(void *data) __asm__("_ZdlPv");
void release_array(void *data) __asm__("_ZdaPv");
void *allocate(size_t size) {
    void *data = malloc(size == 0 ? 1 : size);
    if (data == NULL) abort();
    return data;
}
void *allocate_array(size_t size) { return allocate(size); }
void release(void *data) { free(data); }
void release_array(void *data) { free(data); }

/* Guard of a local static: byte 0 says that it is made, byte 1 is the lock of its maker. */
int __cxa_guard_acquire(uint8_t *guard);
void __cxa_guard_release(uint8_t *guard);
void __cxa_guard_abort(uint8_t *guard);
int __cxa_guard_acquire(uint8_t *guard) {
    for (;;) {
        if (__atomic_load_n(&guard[0], __ATOMIC_ACQUIRE)) return 0;
        if (!__atomic_test_and_set(&guard[1], __ATOMIC_ACQUIRE)) {
            if (!__atomic_load_n(&guard[0], __ATOMIC_ACQUIRE)) return 1;
            __atomic_clear(&guard[1], __ATOMIC_RELEASE);
            return 0;
        }
        sched_yield();
    }
}
void __cxa_guard_release(uint8_t *guard) {
    __atomic_store_n(&guard[0], 1, __ATOMIC_RELEASE);
    __atomic_clear(&guard[1], __ATOMIC_RELEASE);
}
void __cxa_guard_abort(uint8_t *guard) { __atomic_clear(&guard[1], __ATOMIC_RELEASE); }

/* Reached only through snappy's C++ interface, which the shim does not use. */
void throw_length_error(const char *what) __asm__("_ZSt20__throw_length_errorPKc");
void string_resize(void *self, size_t size, char fill)
    __asm__("_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE6resizeEmc");
void string_append(void *self, const char *data, size_t size)
    __asm__("_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE9_M_appendEPKcm");
void throw_length_error(const char *what) {
    (void)what;
    abort();
}
void string_resize(void *self, size_t size, char fill) {
    (void)self, (void)size, (void)fill;
    abort();
}
void string_append(void *self, const char *data, size_t size) {
    (void)self, (void)data, (void)size;
    abort();
}

/* Targets of type information that nothing reads without exceptions or dynamic_cast. */
void *const class_type_info[8] __asm__("_ZTVN10__cxxabiv117__class_type_infoE") = {0};
void *const si_class_type_info[8] __asm__("_ZTVN10__cxxabiv120__si_class_type_infoE") = {0};
