/* UniPC (Zhao et al., arXiv 2302.04867) for flow models, as diffusers' UniPCMultistepScheduler computes
 * it with solver_order 2, bh2, predict_x0 and flow sigmas: a table of coefficients made on the host.
 *
 * One step, with x the sample, v the model's output, and the history m0 (the last x0), m1 (the one
 * before) and last (the sample that the last prediction started from):
 *     x0        = k0 x + k1 v
 *     corrected = c0 last + c1 m0 + c2 m1 + c3 x0 + c4 x
 *     next x    = p0 corrected + p1 x0 + p2 m0
 * then last := corrected, m1 := m0, m0 := x0. Coefficients of what does not exist yet are 0. */
#ifndef KW_ENGINE_UNIPC_H
#define KW_ENGINE_UNIPC_H

#include <stdint.h>

enum kw__unipc_column {
    KW__UNIPC_TIMESTEP, /* truncated to an integer, as the model is given it */
    KW__UNIPC_SIGMA,
    KW__UNIPC_CONVERT,                         /* k0 k1 */
    KW__UNIPC_CORRECT = KW__UNIPC_CONVERT + 2, /* c0 .. c4 */
    KW__UNIPC_PREDICT = KW__UNIPC_CORRECT + 5, /* p0 p1 p2 */
    KW__UNIPC_COLUMNS = KW__UNIPC_PREDICT + 3
};

/* Fills `steps` rows of `stride` doubles, of which the first KW__UNIPC_COLUMNS are set. steps >= 1,
 * flow_shift > 0. */
void kw__unipc_table(int64_t steps, double flow_shift, double num_train_timesteps, int stride, double *rows);

#endif
