/* A run as JSON, schema kinowatt.runs/1, and back: nothing is lost, and the same run gives the same text.
 *
 *     {"uuid": "...", "began": "...", ..., "settings": {"prompt": "a cat"},
 *      "channels": [{"source": "nvml", "label": "GPU-0", ...}],
 *      "windows": [{"name": "total", "duration_s": 12.5, ..., "energy_j": {"gpu": X, "cpu": X, "ram": X},
 * ...}], "details": [{"window": 0, "channel": 0, "method": "counter", ...}], "findings": [{"code": "...",
 * "message": "...", ...}]}
 *
 * Names are those of store/fields.c. What is not known is null. X is {"value", "low", "high", "status"}, or
 * {"value": null, "reason"} for what is absent. */
#ifndef KW_STORE_RUN_JSON_H
#define KW_STORE_RUN_JSON_H

#include <jansson.h>

#include "report/out.h"
#include "store/store.h"

#define KW__RUNS_SCHEMA "kinowatt.runs/1"

/* Appends the object, on one line. With its id, which holds in one store alone, when that is not 0. */
void kw__run_put_json(struct kw__out *out, const struct kw__run *run, int64_t id,
                      const struct kw__finding *findings, size_t num_findings);

/* A run with its findings, which are of the run's arena; *findings is NULL where the object has no such key:
 * the run was never checked. KW_ERROR_FORMAT names the key that is wrong. Keys that are not known are left
 * aside. */
kw_status kw__run_from_json(const json_t *object, struct kw__run **out, struct kw__finding **findings,
                            size_t *num_findings, kw_error *err);

#endif
