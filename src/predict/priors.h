/* Priors: what a fit to rows of a stack on a hardware starts from (docs/CALIBRATION.md, "Rows of your own").
 *
 * They are the pair's own: those in calibrations/priors, else the bases of its calibration, from before any
 * row moved them, so that no row counts twice. Where the pair has none they are carried from the nearest
 * calibration, with what its rows made of it, and each parameter's sd is wider by what carrying costs. */
#ifndef KW_PREDICT_PRIORS_H
#define KW_PREDICT_PRIORS_H

#include <jansson.h>

#include "predict/calibration.h"

struct kw__priors {
    struct kw__calibration *calibration; /* all log values are 0 */
    json_t *document;                    /* the same: a fit's file is made from it */
    enum kw__distance distance;          /* how far they were carried */
    kw_error skipped;                    /* a calibration that can't be read; its code is KW_OK without one */
};

/* `given`: the path or name of a calibration to start from; NULL: as above. KW_ERROR_UNSUPPORTED when nothing
 * is known to start from. */
kw_status kw__priors_open(const kw_catalog *catalog, const char *stack, const kw_hardware *hardware,
                          const char *given, struct kw__priors *out, kw_error *err);
void kw__priors_close(struct kw__priors *priors);

#endif
