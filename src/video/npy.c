/* NumPy's .npy, version 1.0 (numpy.lib.format): the magic, two bytes of header length, a Python dict
 * padded with spaces so that the data begins at a multiple of 64, the data. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "video/video.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the array is written as it lies in memory, and its header says little-endian"
#endif

enum { PREFIX = 10, LONGEST = 512 };

/* The prefix and the header; returns its length, 0 when it does not fit. */
static size_t make_header(int ndim, const int64_t *dim, char *out)
{
    size_t n = PREFIX, room = LONGEST - 64;
    n += (size_t)snprintf(out + n, room - n, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < ndim && n < room; i++) {
        const char *comma = i + 1 == ndim ? (ndim == 1 ? "," : "") : ", ";
        n += (size_t)snprintf(out + n, room - n, "%" PRId64 "%s", dim[i], comma);
    }
    if (n < room) n += (size_t)snprintf(out + n, room - n, "), }");
    if (n >= room) return 0;
    while ((n + 1) % 64) out[n++] = ' ';
    out[n++] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((n - PREFIX) & 0xFF);
    out[9] = (char)((n - PREFIX) >> 8);
    return n;
}

double kw__npy_bytes(int ndim, const int64_t *dim)
{
    char header[LONGEST];
    double count = 1;
    for (int i = 0; i < ndim; i++) count *= (double)dim[i];
    return (double)make_header(ndim, dim, header) + count * sizeof(float);
}

kw_status kw__npy_write(const char *path, int ndim, const int64_t *dim, const float *data, kw_error *err)
{
    char header[LONGEST];
    size_t length = make_header(ndim, dim, header), count = 1;
    if (!length) return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: %d dimensions are too many", path, ndim);
    for (int i = 0; i < ndim; i++) count *= (size_t)dim[i];
    struct kw__pending file;
    kw_status status = kw__pending_open(path, &file, err);
    if (status) return status;
    status = kw__pending_write(&file, header, length, err);
    if (!status) status = kw__pending_write(&file, data, count * sizeof *data, err);
    if (status) {
        kw__pending_discard(&file);
        return status;
    }
    return kw__pending_commit(&file, err);
}
