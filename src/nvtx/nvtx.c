/* libkinowatt-nvtx.so: NVTX ranges of a program become marks.
 *
 * NVTX is a set of headers. In each library that uses it the first call loads the library that
 * NVTX_INJECTION64_PATH names and calls its InitializeInjectionNvtx2 with a function that gives the tables of
 * callbacks; what is put there is called from then on. The layouts and numbers below are those of NVIDIA's
 * nvtx3/nvToolsExt.h and nvtx3/nvtxDetail/nvtxTypes.h (NVTX 3, which keeps them stable); nothing of the
 * headers is needed.
 *
 * Pushed ranges nest within a thread and a domain, so each thread keeps a stack of what it has open. One
 * range per operator, as some profilers' helpers make, is a flood: the outermost MAX_DEPTH levels of a thread
 * are stages, and of each level the first MAX_RANGES of the process. Ranges do not wait for the GPU. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "record/send.h"

/* ---- NVTX ------------------------------------------------------------------------------------------ */

enum { EXPORT_CALLBACKS = 1, MODULE_CORE = 1, MODULE_CORE2 = 5 };
enum { RANGE_START_EX = 4, RANGE_START_A, RANGE_START_W, RANGE_END, PUSH_EX, PUSH_A, PUSH_W, POP };
enum { DOMAIN_START_EX = 2, DOMAIN_END, DOMAIN_PUSH_EX, DOMAIN_POP };
enum { REGISTER_A = 10, REGISTER_W, CREATE_A, CREATE_W };
enum { MESSAGE_ASCII = 1, MESSAGE_UNICODE, MESSAGE_REGISTERED };

typedef void (*function)(void);

struct export_callbacks {
    size_t struct_size;
    int (*get_module)(int module, function ***table, unsigned *size);
};

struct event { /* nvtxEventAttributes_t */
    uint16_t version, size;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const void *message;
};

int InitializeInjectionNvtx2(const void *(*get_table)(uint32_t table));

/* ---- Names ----------------------------------------------------------------------------------------- */

enum { NAME_BYTES = 64, MAX_DEPTH = 4, MAX_LEVELS = 64, MAX_RANGES = 500, MAX_STARTED = 64 };

/* A name as marks have it: 63 bytes, no control characters. */
static void copy_name(char out[NAME_BYTES], const char *name)
{
    size_t used = 0;
    for (; name && *name && used < NAME_BYTES - 1; name++) {
        bool control = (unsigned char)*name < 0x20 || *name == 0x7F;
        out[used++] = control ? '_' : *name;
    }
    if (used == 0) out[used++] = '-';
    out[used] = '\0';
}

static void copy_wide(char out[NAME_BYTES], const wchar_t *name)
{
    char text[NAME_BYTES] = "";
    size_t used = 0;
    for (; name && *name; name++) { /* UTF-32, as wchar_t is here */
        uint32_t c = (uint32_t)*name;
        size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        if (used + more + 1 >= sizeof text) break;
        static const unsigned char first[] = {0, 0xC0, 0xE0, 0xF0};
        text[used++] = (char)(first[more] | (c >> (6 * more)));
        while (more-- > 0) text[used++] = (char)(0x80 | ((c >> (6 * more)) & 0x3F));
    }
    text[used] = '\0';
    copy_name(out, text);
}

static void copy_event(char out[NAME_BYTES], const struct event *event)
{
    bool has_message = event && event->size >= offsetof(struct event, message) + sizeof event->message;
    if (has_message && event->message_type == MESSAGE_UNICODE)
        copy_wide(out, event->message);
    else if (has_message &&
             (event->message_type == MESSAGE_ASCII || event->message_type == MESSAGE_REGISTERED))
        copy_name(out, event->message); /* a registered string's handle is its text */
    else
        copy_name(out, NULL);
}

/* ---- Ranges ---------------------------------------------------------------------------------------- */

/* Whether a range of this level becomes a stage. */
static bool is_kept(int level)
{
    static atomic_int counts[MAX_DEPTH];
    if (level >= MAX_DEPTH) return false;
    int before = atomic_fetch_add(&counts[level], 1);
    if (before == MAX_RANGES)
        kw__mark_send_setting("set", "run.nvtx", "of some levels the first 500 ranges alone are stages");
    if (before >= MAX_RANGES) atomic_fetch_sub(&counts[level], 1);
    return before < MAX_RANGES;
}

struct level {
    const void *domain;
    bool kept;
    char name[NAME_BYTES];
};

static _Thread_local struct level levels[MAX_LEVELS];
static _Thread_local int depth; /* may be more than MAX_LEVELS */

static int push(const void *domain, const char *name)
{
    uint64_t now_ns = kw__mark_now_ns();
    int level = depth++;
    if (level >= MAX_LEVELS) return level;
    struct level *l = &levels[level];
    *l = (struct level){.domain = domain, .kept = is_kept(level)};
    memcpy(l->name, name, NAME_BYTES);
    if (l->kept) kw__mark_send("begin", l->name, now_ns);
    return level;
}

/* Ends the innermost range of the domain. */
static int pop(const void *domain)
{
    uint64_t now_ns = kw__mark_now_ns();
    int level = depth - 1;
    if (level < 0) return -1;
    if (level >= MAX_LEVELS) return --depth;
    while (level >= 0 && levels[level].domain != domain) level--;
    if (level < 0) return -1;
    if (levels[level].kept) kw__mark_send("end", levels[level].name, now_ns);
    depth--;
    memmove(&levels[level], &levels[level + 1], (size_t)(depth - level) * sizeof levels[0]);
    return level;
}

/* Ranges that any thread may end. */
static struct started {
    uint64_t id; /* 0: free */
    char name[NAME_BYTES];
} started[MAX_STARTED];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of these and of handles */
static uint64_t last_id;

static uint64_t start(const char *name)
{
    uint64_t now_ns = kw__mark_now_ns(), id;
    bool kept = false;
    pthread_mutex_lock(&lock);
    id = ++last_id;
    for (size_t i = 0; i < MAX_STARTED && !kept; i++) {
        if (started[i].id) continue;
        if (!is_kept(0)) break;
        kept = true;
        started[i].id = id;
        memcpy(started[i].name, name, NAME_BYTES);
    }
    pthread_mutex_unlock(&lock);
    if (kept) kw__mark_send("begin", name, now_ns);
    return id;
}

static void end(uint64_t id)
{
    uint64_t now_ns = kw__mark_now_ns();
    char name[NAME_BYTES] = "";
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < MAX_STARTED && id; i++) {
        if (started[i].id != id) continue;
        memcpy(name, started[i].name, NAME_BYTES);
        started[i].id = 0;
    }
    pthread_mutex_unlock(&lock);
    if (*name) kw__mark_send("end", name, now_ns);
}

/* ---- Callbacks ------------------------------------------------------------------------------------- */

static int push_a(const char *name)
{
    char text[NAME_BYTES];
    copy_name(text, name);
    return push(NULL, text);
}

static int push_w(const wchar_t *name)
{
    char text[NAME_BYTES];
    copy_wide(text, name);
    return push(NULL, text);
}

static int domain_push(const void *domain, const struct event *event)
{
    char text[NAME_BYTES];
    copy_event(text, event);
    return push(domain, text);
}

static int push_ex(const struct event *event)
{
    return domain_push(NULL, event);
}

static int pop_default(void)
{
    return pop(NULL);
}

static uint64_t start_a(const char *name)
{
    char text[NAME_BYTES];
    copy_name(text, name);
    return start(text);
}

static uint64_t start_w(const wchar_t *name)
{
    char text[NAME_BYTES];
    copy_wide(text, name);
    return start(text);
}

static uint64_t start_ex(const struct event *event)
{
    char text[NAME_BYTES];
    copy_event(text, event);
    return start(text);
}

static uint64_t domain_start(const void *domain, const struct event *event)
{
    (void)domain;
    return start_ex(event);
}

static void domain_end(const void *domain, uint64_t id)
{
    (void)domain;
    end(id);
}

/* What handles stand for: NVTX may use them until the program ends. */
struct handle {
    struct handle *next;
    char name[NAME_BYTES];
};
static struct handle *handles;

static const void *keep(const char name[NAME_BYTES])
{
    struct handle *handle = malloc(sizeof *handle);
    if (!handle) return NULL;
    memcpy(handle->name, name, NAME_BYTES);
    pthread_mutex_lock(&lock);
    handle->next = handles;
    handles = handle;
    pthread_mutex_unlock(&lock);
    return handle->name;
}

static const void *register_a(const void *domain, const char *name)
{
    char text[NAME_BYTES];
    (void)domain;
    copy_name(text, name);
    return keep(text);
}

static const void *register_w(const void *domain, const wchar_t *name)
{
    char text[NAME_BYTES];
    (void)domain;
    copy_wide(text, name);
    return keep(text);
}

static const void *create_a(const char *name)
{
    return register_a(NULL, name);
}

static const void *create_w(const wchar_t *name)
{
    return register_w(NULL, name);
}

/* ---- Entry ----------------------------------------------------------------------------------------- */

static bool subscribe(const struct export_callbacks *callbacks, int module, const function *functions,
                      unsigned count)
{
    function **table;
    unsigned size;
    if (!callbacks->get_module(module, &table, &size)) return false;
    for (unsigned i = 1; i < count && i < size; i++)
        if (functions[i] && table[i]) *table[i] = functions[i];
    return true;
}

__attribute__((visibility("default"))) int InitializeInjectionNvtx2(const void *(*get_table)(uint32_t table))
{
    const function core[] = {
        [RANGE_START_EX] = (function)start_ex, [RANGE_START_A] = (function)start_a,
        [RANGE_START_W] = (function)start_w,   [RANGE_END] = (function)end,
        [PUSH_EX] = (function)push_ex,         [PUSH_A] = (function)push_a,
        [PUSH_W] = (function)push_w,           [POP] = (function)pop_default,
    };
    const function core2[] = {
        [DOMAIN_START_EX] = (function)domain_start,
        [DOMAIN_END] = (function)domain_end,
        [DOMAIN_PUSH_EX] = (function)domain_push,
        [DOMAIN_POP] = (function)pop,
        [REGISTER_A] = (function)register_a,
        [REGISTER_W] = (function)register_w,
        [CREATE_A] = (function)create_a,
        [CREATE_W] = (function)create_w,
    };
    const struct export_callbacks *callbacks = get_table(EXPORT_CALLBACKS);
    const char *socket = getenv("KINOWATT_SOCKET");
    if (!socket || !*socket || !callbacks ||
        callbacks->struct_size < offsetof(struct export_callbacks, get_module) + sizeof callbacks->get_module)
        return 0;
    if (!subscribe(callbacks, MODULE_CORE, core, sizeof core / sizeof core[0])) return 0;
    (void)subscribe(callbacks, MODULE_CORE2, core2, sizeof core2 / sizeof core2[0]);
    return 1;
}
