/* Reading .safetensors; safetensors.h is the manual. */
#include "engine/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the elements of safetensors are little-endian and used as they are"
#endif

/* Bytes of the header's length, and the format's own limit of the header. */
enum { PREFIX = 8, LARGEST_HEADER = 100000000 };
/* A tensor's name in a message: enough to find it, and the message still holds the path. */
#define NAME "%.120s"

struct kw__safetensors {
    struct kw__arena arena;
    const char *path;
    int fd; /* -1: the bytes are the caller's, at `memory` */
    const unsigned char *memory;
    uint64_t size, data_at, data_size; /* of the file; where its data begin, and how much they are */
    struct kw__stored_tensor *tensors; /* by name */
    size_t num_tensors;
};

static const struct {
    const char *name;
    unsigned bytes;
} stored_dtypes[] = {{"F32", 4},  {"F16", 2}, {"BF16", 2},    {"F64", 8},     {"I64", 8},    {"I32", 4},
                     {"I16", 2},  {"I8", 1},  {"U64", 8},     {"U32", 4},     {"U16", 2},    {"U8", 1},
                     {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
enum { NUM_STORED = sizeof stored_dtypes / sizeof stored_dtypes[0] };

static int dtype_index(const char *name)
{
    for (int i = 0; i < NUM_STORED; i++)
        if (strcmp(stored_dtypes[i].name, name) == 0) return i;
    return -1;
}

/* ---- The header ----------------------------------------------------------------------------- */

static kw_status bad_tensor(const struct kw__safetensors *file, const char *name, const char *what,
                            kw_error *err)
{
    return kw__fail(err, KW_ERROR_FORMAT, "%s: tensor \"" NAME "\": %s", file->path, name, what);
}

/* Reads an array of whole numbers >= 0. */
static kw_status read_sizes(struct kw__safetensors *file, const char *name, const char *key,
                            const json_t *array, int64_t **out, kw_error *err)
{
    size_t count = json_array_size(array);
    int64_t *values = kw__arena_alloc(&file->arena, count ? count : 1, sizeof *values);
    if (!values) return kw__fail_memory(err);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "%s: tensor \"" NAME "\": \"%s\" must hold whole numbers of 0 or more",
                            file->path, name, key);
        values[i] = json_integer_value(value);
    }
    *out = values;
    return KW_OK;
}

/* Bytes that shape and dtype make; false when that is more than 2^63. */
static bool bytes_of(const struct kw__stored_tensor *t, unsigned element, uint64_t *bytes)
{
    uint64_t n = element;
    for (int i = 0; i < t->ndim; i++)
        if (t->dim[i] == 0) n = 0; /* before a product with it might overflow */
    for (int i = 0; n && i < t->ndim; i++) {
        if ((uint64_t)t->dim[i] > (UINT64_C(1) << 63) / n) return false;
        n *= (uint64_t)t->dim[i];
    }
    *bytes = n;
    return true;
}

static kw_status read_tensor(struct kw__safetensors *file, const char *name, const json_t *entry,
                             struct kw__stored_tensor *t, kw_error *err)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets) ||
        json_array_size(offsets) != 2)
        return bad_tensor(file, name, "its entry needs dtype, shape and two data_offsets", err);
    int kind = dtype_index(json_string_value(dtype));
    if (kind < 0)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: tensor \"" NAME "\": dtype \"%.20s\" is not known",
                        file->path, name, json_string_value(dtype));
    if (json_array_size(shape) > 64) return bad_tensor(file, name, "it has more than 64 dimensions", err);
    int64_t *dim, *range;
    kw_status status = read_sizes(file, name, "shape", shape, &dim, err);
    if (!status) status = read_sizes(file, name, "data_offsets", offsets, &range, err);
    if (status) return status;
    *t = (struct kw__stored_tensor){kw__arena_strdup(&file->arena, name),
                                    stored_dtypes[kind].name,
                                    (int)json_array_size(shape),
                                    dim,
                                    (uint64_t)range[0],
                                    (uint64_t)range[1]};
    if (!t->name) return kw__fail_memory(err);
    if (t->begin > t->end) return bad_tensor(file, name, "it ends before it begins", err);
    if (t->end > file->data_size)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s is truncated: tensor \"" NAME "\" ends at byte %" PRIu64 " of %" PRIu64
                        "; get the file again",
                        file->path, name, t->end, file->data_size);
    uint64_t bytes;
    if (!bytes_of(t, stored_dtypes[kind].bytes, &bytes) || bytes != t->end - t->begin)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: tensor \"" NAME "\": %" PRIu64 " bytes are not what its shape needs in %s",
                        file->path, name, t->end - t->begin, t->dtype);
    return KW_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct kw__stored_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b)
{
    const struct kw__stored_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The tensors fill the data from its first byte to its last, each byte once. */
static kw_status check_places(struct kw__safetensors *file, kw_error *err)
{
    uint64_t end = 0;
    if (file->num_tensors) qsort(file->tensors, file->num_tensors, sizeof *file->tensors, by_place);
    for (size_t i = 0; i < file->num_tensors; i++) {
        const struct kw__stored_tensor *t = &file->tensors[i];
        if (t->begin < end)
            return kw__fail(err, KW_ERROR_FORMAT, "%s: tensors \"" NAME "\" and \"" NAME "\" overlap",
                            file->path, t[-1].name, t->name);
        if (t->begin > end)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "%s: %" PRIu64 " bytes before tensor \"" NAME "\" belong to no tensor",
                            file->path, t->begin - end, t->name);
        end = t->end;
    }
    if (end != file->data_size)
        return kw__fail(err, KW_ERROR_FORMAT, "%s: %" PRIu64 " bytes behind the last tensor belong to none",
                        file->path, file->data_size - end);
    if (file->num_tensors) qsort(file->tensors, file->num_tensors, sizeof *file->tensors, by_name);
    return KW_OK;
}

static kw_status read_header(struct kw__safetensors *file, json_t *header, kw_error *err)
{
    file->tensors = kw__arena_alloc(&file->arena, json_object_size(header) + 1, sizeof *file->tensors);
    if (!file->tensors) return kw__fail_memory(err);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        kw_status status = read_tensor(file, name, entry, &file->tensors[file->num_tensors], err);
        if (status) return status;
        file->num_tensors++;
    }
    return check_places(file, err);
}

/* Bytes of the file into `out`. Those that are no longer there are an error, never a signal. */
static kw_status fetch(const struct kw__safetensors *file, uint64_t at, size_t count, void *out,
                       kw_error *err)
{
    if (file->fd < 0) {
        if (count) memcpy(out, file->memory + at, count);
        return KW_OK;
    }
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(file->fd, (char *)out + done, count - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", file->path, strerror(errno));
        if (n == 0)
            return kw__fail(err, KW_ERROR_FORMAT,
                            "%s became shorter while it was read; let nothing write to it, or get it again",
                            file->path);
        done += (size_t)n;
    }
    return KW_OK;
}

static kw_status load_header(struct kw__safetensors *file, size_t length, json_t **out, kw_error *err)
{
    char *text = malloc(length + 1);
    if (!text) return kw__fail_memory(err);
    kw_status status = fetch(file, PREFIX, length, text, err);
    if (!status) {
        json_error_t problem;
        *out = kw__json_parse(text, length, 0, &problem);
        if (!*out && json_error_code(&problem) == json_error_out_of_memory)
            status = kw__fail_memory(err);
        else if (!*out)
            status = kw__fail(err, KW_ERROR_FORMAT, "%s: its header is not valid JSON: %s", file->path,
                              problem.text);
    }
    free(text);
    return status;
}

static kw_status parse(struct kw__safetensors *file, kw_error *err)
{
    if (file->size < PREFIX)
        return kw__fail(err, KW_ERROR_FORMAT, "%s is truncated: %" PRIu64 " bytes are no safetensors file",
                        file->path, file->size);
    uint64_t length;
    kw_status status = fetch(file, 0, sizeof length, &length, err);
    if (status) return status;
    /* the first bytes of something else (a page of HTML, a pickle) make a huge length */
    if (length > LARGEST_HEADER)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: a header of %" PRIu64 " bytes is beyond the format's 100 MB; this is no "
                        "safetensors file",
                        file->path, length);
    if (length > file->size - PREFIX)
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s is truncated: its header has %" PRIu64 " bytes, the file %" PRIu64
                        "; get the file again",
                        file->path, length, file->size);
    file->data_at = PREFIX + length;
    file->data_size = file->size - file->data_at;
    json_t *header = NULL;
    status = load_header(file, (size_t)length, &header, err);
    if (status) return status;
    status = json_is_object(header)
                 ? read_header(file, header, err)
                 : kw__fail(err, KW_ERROR_FORMAT, "%s: its header is no JSON object", file->path);
    json_decref(header);
    return status;
}

/* ---- One file ------------------------------------------------------------------------------- */

/* Takes the descriptor, also when it fails. */
static kw_status open_bytes(const char *path, int fd, const void *memory, uint64_t size,
                            struct kw__safetensors **out, kw_error *err)
{
    struct kw__safetensors *file = calloc(1, sizeof *file);
    if (!file) {
        if (fd >= 0) close(fd);
        return kw__fail_memory(err);
    }
    kw__arena_init(&file->arena);
    file->fd = fd;
    file->memory = memory;
    file->size = size;
    file->path = kw__arena_strdup(&file->arena, path);
    kw_status status = file->path ? parse(file, err) : kw__fail_memory(err);
    if (status)
        kw__safetensors_close(file);
    else
        *out = file;
    return status;
}

kw_status kw__safetensors_parse(const char *path, const void *bytes, size_t size,
                                struct kw__safetensors **out, kw_error *err)
{
    return open_bytes(path, -1, bytes, size, out, err);
}

kw_status kw__safetensors_open(const char *path, struct kw__safetensors **out, kw_error *err)
{
    /* O_NONBLOCK: a named pipe must not hang us */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kw__fail(err, errno == ENOENT || errno == ENOTDIR ? KW_ERROR_NOT_FOUND : KW_ERROR_IO,
                        "cannot read %s: %s", path, strerror(errno));
    struct stat info;
    kw_status status = KW_OK;
    if (fstat(fd, &info) != 0)
        status = kw__fail(err, KW_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = kw__fail(err, KW_ERROR_FORMAT, "%s is not a regular file", path);
    if (!status) return open_bytes(path, fd, NULL, (uint64_t)info.st_size, out, err);
    close(fd);
    return status;
}

void kw__safetensors_close(struct kw__safetensors *file)
{
    if (!file) return;
    if (file->fd >= 0) close(file->fd);
    kw__arena_free(&file->arena);
    free(file);
}

const char *kw__safetensors_path(const struct kw__safetensors *file)
{
    return file->path;
}

size_t kw__safetensors_count(const struct kw__safetensors *file)
{
    return file->num_tensors;
}

const struct kw__stored_tensor *kw__safetensors_at(const struct kw__safetensors *file, size_t index)
{
    return &file->tensors[index];
}

const struct kw__stored_tensor *kw__safetensors_find(const struct kw__safetensors *file, const char *name)
{
    const struct kw__stored_tensor key = {.name = name};
    if (!file->num_tensors) return NULL;
    return bsearch(&key, file->tensors, file->num_tensors, sizeof key, by_name);
}

/* ---- Elements -------------------------------------------------------------------------------- */

/* Elements go through f32, which holds F16 and BF16 exactly, in blocks: loops of a fixed length over
 * aligned buffers are what compilers turn into vector code. CHUNK elements are read from the file at once. */
enum { BLOCK = 1024, CHUNK = 32 * BLOCK };

static void load_f32(const unsigned char *in, size_t count, uint32_t *restrict out)
{
    memcpy(out, in, count * sizeof *out);
}

static void load_f16(const unsigned char *in, size_t count, uint32_t *restrict out)
{
    uint16_t half[BLOCK] = {0};
    memcpy(half, in, count * sizeof *half);
    for (int i = 0; i < BLOCK; i++) {
        uint32_t magnitude = half[i] & 0x7FFFu, bits = magnitude << 13;
        float scaled;
        memcpy(&scaled, &bits, sizeof scaled);
        scaled *= 0x1p112f; /* the difference of the exponents' biases; subnormals come out right too */
        memcpy(&bits, &scaled, sizeof bits);
        if (magnitude >= 0x7C00u) bits |= 0x7F800000u; /* infinite, or not a number */
        out[i] = bits | (uint32_t)(half[i] & 0x8000u) << 16;
    }
}

static void load_bf16(const unsigned char *in, size_t count, uint32_t *restrict out)
{
    uint16_t half[BLOCK] = {0};
    memcpy(half, in, count * sizeof *half);
    for (int i = 0; i < BLOCK; i++) out[i] = (uint32_t)half[i] << 16;
}

static void store_bf16(const uint32_t *restrict in, uint16_t *restrict out)
{
    for (int i = 0; i < BLOCK; i++) {
        uint32_t rounded = (in[i] + 0x7FFFu + (in[i] >> 16 & 1)) >> 16;
        uint32_t not_a_number = in[i] >> 16 | 0x40; /* stays one, and quiet */
        out[i] = (uint16_t)((in[i] & 0x7FFFFFFFu) > 0x7F800000u ? not_a_number : rounded);
    }
}

static bool is_readable(const char *dtype)
{
    return strcmp(dtype, "F32") == 0 || strcmp(dtype, "F16") == 0 || strcmp(dtype, "BF16") == 0;
}

static kw_status bad_dtype(const struct kw__safetensors *file, const struct kw__stored_tensor *tensor,
                           kw_error *err)
{
    return kw__fail(err, KW_ERROR_FORMAT,
                    "%s: tensor \"" NAME "\" has dtype %s; weights of F32, F16 and BF16 are read", file->path,
                    tensor->name, tensor->dtype);
}

static void cast(const unsigned char *in, const char *dtype, size_t count, enum kw__dtype wanted, void *out)
{
    uint32_t wide[BLOCK] = {0};
    uint16_t narrow[BLOCK];
    size_t size = dtype[0] == 'F' && dtype[1] == '3' ? 4 : 2;
    void (*load)(const unsigned char *, size_t, uint32_t *restrict) = size == 4         ? load_f32
                                                                      : dtype[0] == 'F' ? load_f16
                                                                                        : load_bf16;
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t n = count - done < BLOCK ? count - done : BLOCK;
        load(in + done * size, n, wide);
        if (wanted == KW__F32) {
            memcpy((float *)out + done, wide, n * sizeof *wide);
        } else {
            store_bf16(wide, narrow);
            memcpy((uint16_t *)out + done, narrow, n * sizeof *narrow);
        }
    }
}

kw_status kw__safetensors_read(const struct kw__safetensors *file, const struct kw__stored_tensor *tensor,
                               enum kw__dtype wanted, void *out, kw_error *err)
{
    if (!is_readable(tensor->dtype)) return bad_dtype(file, tensor, err);
    size_t bytes = (size_t)(tensor->end - tensor->begin), size = strcmp(tensor->dtype, "F32") == 0 ? 4 : 2,
           kept = wanted == KW__F32 ? 4 : 2, count = bytes / size;
    uint64_t at = file->data_at + tensor->begin;
    if (strcmp(tensor->dtype, wanted == KW__F32 ? "F32" : "BF16") == 0)
        return fetch(file, at, bytes, out, err);
    unsigned char raw[CHUNK * sizeof(uint32_t)];
    kw_status status = KW_OK;
    for (size_t done = 0; done < count && !status; done += CHUNK) {
        size_t n = count - done < CHUNK ? count - done : CHUNK;
        status = fetch(file, at + done * size, n * size, raw, err);
        if (!status) cast(raw, tensor->dtype, n, wanted, (char *)out + done * kept);
    }
    return status;
}

/* ---- Components ------------------------------------------------------------------------------- */

struct kw__checkpoint {
    struct kw__arena arena;
    const char *path; /* of the index, or of the one file */
    json_t *index;    /* NULL: one file */
    const json_t *weight_map;
    json_t *shards; /* file's name: its place in `files`; thousands of tensors are looked up here */
    struct kw__safetensors **files;
    size_t num_files, file_capacity;
};

/* What a checkpoint lacks makes it incomplete: the folder itself is there. */
static kw_status add_file(struct kw__checkpoint *c, const char *path, const char *missing, kw_error *err)
{
    struct kw__safetensors **files =
        kw__arena_grow(&c->arena, c->files, c->num_files, &c->file_capacity, sizeof *files);
    if (!files) return kw__fail_memory(err);
    c->files = files;
    kw_status status = kw__safetensors_open(path, &files[c->num_files], err);
    if (!status) c->num_files++;
    return status == KW_ERROR_NOT_FOUND ? kw__fail(err, KW_ERROR_FORMAT, "%s", missing) : status;
}

static kw_status add_shard(struct kw__checkpoint *c, const char *folder, const char *name, kw_error *err)
{
    const char *path = kw__arena_printf(&c->arena, "%s/%s", folder, name);
    const char *missing = kw__arena_printf(
        &c->arena, "%s names the file %.120s, which is not there; get it too", c->path, name);
    if (!path || !missing ||
        json_object_set_new(c->shards, name, json_integer((json_int_t)c->num_files)) != 0)
        return kw__fail_memory(err);
    return add_file(c, path, missing, err);
}

static kw_status open_shards(struct kw__checkpoint *c, const char *folder, kw_error *err)
{
    kw_status status = kw__json_load(c->path, &c->index, err);
    if (status) return status;
    status = kw__json_object((struct kw__json){c->path, c->index}, "weight_map", &c->weight_map, err);
    if (status) return status;
    c->shards = json_object();
    if (!c->shards) return kw__fail_memory(err);
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)c->weight_map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !*name || strchr(name, '/'))
            return kw__fail(err, KW_ERROR_FORMAT, "%s: tensor \"" NAME "\" must name a file of its folder",
                            c->path, tensor);
        if (json_object_get(c->shards, name)) continue;
        status = add_shard(c, folder, name, err);
        if (status) return status;
    }
    return KW_OK;
}

static kw_status open_single(struct kw__checkpoint *c, const char *folder, const char *base, kw_error *err)
{
    c->path = kw__arena_printf(&c->arena, "%s/%s.safetensors", folder, base);
    const char *missing = kw__arena_printf(
        &c->arena, "the checkpoint has neither %s/%s.safetensors nor an index of several; get it again",
        folder, base);
    return c->path && missing ? add_file(c, c->path, missing, err) : kw__fail_memory(err);
}

kw_status kw__checkpoint_open(const char *folder, const char *base, struct kw__checkpoint **out,
                              kw_error *err)
{
    struct kw__checkpoint *c = calloc(1, sizeof *c);
    if (!c) return kw__fail_memory(err);
    kw__arena_init(&c->arena);
    struct stat info;
    c->path = kw__arena_printf(&c->arena, "%s/%s.safetensors.index.json", folder, base);
    kw_status status = c->path ? KW_OK : kw__fail_memory(err);
    if (!status)
        status = stat(c->path, &info) == 0 ? open_shards(c, folder, err) : open_single(c, folder, base, err);
    if (status)
        kw__checkpoint_close(c);
    else
        *out = c;
    return status;
}

void kw__checkpoint_close(struct kw__checkpoint *checkpoint)
{
    if (!checkpoint) return;
    for (size_t i = 0; i < checkpoint->num_files; i++) kw__safetensors_close(checkpoint->files[i]);
    json_decref(checkpoint->index);
    json_decref(checkpoint->shards);
    kw__arena_free(&checkpoint->arena);
    free(checkpoint);
}

/* "[1536, 8960]", cut short where it does not fit. */
static const char *shape_text(int ndim, const int64_t *dim, char *text, size_t n)
{
    size_t used = (size_t)snprintf(text, n, "[");
    for (int i = 0; i < ndim && used < n; i++)
        used += (size_t)snprintf(text + used, n - used, "%s%" PRId64, i ? ", " : "", dim[i]);
    if (used < n) snprintf(text + used, n - used, "]");
    return text;
}

kw_status kw__checkpoint_find(const struct kw__checkpoint *checkpoint, const struct kw__tensor *wanted,
                              const struct kw__safetensors **file, const struct kw__stored_tensor **tensor,
                              kw_error *err)
{
    const struct kw__safetensors *f = checkpoint->index ? NULL : checkpoint->files[0];
    if (checkpoint->index) {
        const char *name = json_string_value(json_object_get(checkpoint->weight_map, wanted->name));
        if (name) f = checkpoint->files[json_integer_value(json_object_get(checkpoint->shards, name))];
    }
    const struct kw__stored_tensor *t = f ? kw__safetensors_find(f, wanted->name) : NULL;
    if (!t)
        return kw__fail(err, KW_ERROR_FORMAT, "%s has no tensor \"" NAME "\"; is it this model's checkpoint?",
                        f ? f->path : checkpoint->path, wanted->name);
    if (!is_readable(t->dtype)) return bad_dtype(f, t, err);
    if (t->ndim != wanted->ndim || memcmp(t->dim, wanted->dim, (size_t)t->ndim * sizeof *t->dim) != 0) {
        char has[80], needs[80];
        return kw__fail(err, KW_ERROR_FORMAT,
                        "%s: tensor \"" NAME "\" has shape %s, the model needs %s; is it this model's "
                        "checkpoint?",
                        f->path, t->name, shape_text(t->ndim, t->dim, has, sizeof has),
                        shape_text(wanted->ndim, wanted->dim, needs, sizeof needs));
    }
    *file = f;
    *tensor = t;
    return KW_OK;
}
