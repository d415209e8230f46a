/* Models: a folder of config files in diffusers layout, read once, and lowered to an operator graph
 * for each request. A family is one pipeline class of diffusers: it knows which files to read, the
 * pipeline's own rules for requests, and how the model computes. */
#ifndef KW_MODEL_FAMILY_H
#define KW_MODEL_FAMILY_H

#include "base/arena.h"
#include "base/json.h"
#include "engine/solvers.h"
#include "graph/graph.h"
#include "kinowatt.h"

/* What holds when a request leaves it open. */
struct kw__defaults {
    int64_t width, height, num_frames, num_inference_steps, text_tokens, prompt_tokens, negative_tokens;
    double guidance_scale, fps;
};

struct kw__family;

struct kw_model {
    struct kw__arena arena;
    const char *name, *folder, *hub_id, *note; /* the last two may be NULL */
    const char *diffusers;                     /* the version that wrote the folder; NULL: it does not say */
    const struct kw__family *family;
    struct kw__defaults defaults;
    bool second_guidance; /* some steps have a guidance scale of their own, guidance_scale_2 */
    void *config;         /* the family's, in the arena */
};

struct kw__family {
    const char *pipeline; /* model_index.json's _class_name */
    struct kw__defaults defaults;
    /* Prompts are cleaned (kw__prompt_clean) before they are cut to tokens; else taken as they are. */
    bool cleans_prompts;
    /* Checks what model_index.json says beside the class. */
    kw_status (*check_index)(struct kw__json in, kw_error *err);
    kw_status (*read)(kw_model *model, kw_error *err);
    kw_status (*resolve)(const kw_model *model, kw_effective *request, kw_error *err);
    /* Adds the stages of the reference program. A failed allocation shows in program->arena.failed. */
    void (*lower)(const kw_model *model, struct kw__program *program);
};

extern const struct kw__family kw__animatediff_family;
extern const struct kw__family kw__cogvideox_family;
extern const struct kw__family kw__hunyuan_family;
extern const struct kw__family kw__ltx_family;
extern const struct kw__family kw__mochi_family;
extern const struct kw__family kw__wan_family;

/* Whether the Hub has a model of the catalog under hub_id, by the one file that says it, whose names are
 * "hub_id" and "hub_aliases": other names of the same weights. */
kw_status kw__model_on_hub(const kw_catalog *catalog, const char *name, const char *hub_id,
                           struct kw__arena *arena, bool *out, kw_error *err);
/* Lowers to the reference program: what diffusers computes. */
kw_status kw__lower(const kw_model *model, const kw_effective *request, const struct kw__dtypes *dtypes,
                    struct kw__program **out, kw_error *err);

/* Loads <folder>/<component>/<file> and checks its _class_name (NULL: not checked). The caller
 * releases *root; `in` names the file in messages and lives in the model's arena. */
kw_status kw__component_load(kw_model *model, const char *component, const char *file, const char *class_name,
                             json_t **root, struct kw__json *in, kw_error *err);

/* ---- What families share (rules.c) ---- */

/* A component of model_index.json is ["library", "Class"]; an absent one null or [null, null]. */
bool kw__index_has(struct kw__json in, const char *component);
/* KW_ERROR_FORMAT names the first that is absent. */
kw_status kw__index_needs(struct kw__json in, size_t count, const char *const *components, kw_error *err);
/* The one value of a key that the code knows, as JSON spells it. */
struct kw__only {
    const char *key, *value;
};
/* KW_ERROR_UNSUPPORTED names the first key that has another, or is not there. */
kw_status kw__check_only(struct kw__json in, size_t count, const struct kw__only *only, kw_error *err);
/* KW_ERROR_USAGE names the nearest valid values of the option. */
kw_status kw__check_multiple(const char *option, int64_t value, int64_t multiple, kw_error *err);
/* FlowMatchEulerDiscreteScheduler with a fixed shift and none of its other spacings. `inverted`: it must
 * count from the clean side (Mochi), or must not. */
kw_status kw__flow_scheduler_read(kw_model *model, bool inverted, double *shift, double *num_train_timesteps,
                                  kw_error *err);
/* Every value's elements, of which `largest` are in one batch, stay below 2^53, where doubles and int64_t
 * count exactly. */
kw_status kw__check_elements(const kw_effective *request, double largest, kw_error *err);
/* A copy in the program's arena, so that the program outlives the model. */
const double *kw__constants(struct kw__program *program, const double *values, int64_t count);

/* ---- Prompts and guidance (guidance.c) ---- */

/* Adds a stage with a phase for each prompt, pass 0 the prompt's, 1 the negative prompt's, its inputs
 * ids[B,L] and length[B]; `encode` adds the rest, and leaves what the denoiser needs in kw__text_state. */
typedef void kw__encode(const void *self, struct kw__graph *g, int pass, int ids, int length);
void kw__text_stage(struct kw__program *program, const char *name, kw__encode *encode, const void *self);

/* The state "name.pass": a row of it for each of the batch. */
int kw__text_state(struct kw__graph *g, const char *name, int pass, enum kw__dtype dtype, int ndim,
                   const int64_t *dim);

/* A state of the text stage, by its name without the pass. */
struct kw__text {
    const char *name;
    enum kw__dtype dtype;
    int ndim;
    int64_t dim[KW__MAX_DIMS];
};
enum { KW__MAX_TEXTS = 3 };

/* One pass of the denoiser: x[N,...], timestep[N], texts of N rows -> output like x. */
typedef int kw__forward(const void *self, struct kw__graph *g, int x, int timestep, const int *texts);

struct kw__guidance {
    kw__forward *forward;
    const void *self;
    bool batched; /* both passes in one batch, the negative prompt first, unless the stack decides */
    int num_texts;
    struct kw__text texts[KW__MAX_TEXTS];
    enum kw__dtype dtype; /* of the combination */
    int column;           /* of the iteration table: the prompt's weight, then the negative prompt's */
};
/* The output for request.guidance_passes: of the one, or g cond + (1 - g) uncond. */
int kw__guide(struct kw__graph *g, const struct kw__guidance *how, int x, int timestep);
/* The two weights. */
void kw__guidance_weights(const kw_effective *request, double *columns);

/* The iterations of a flow's Euler steps on sigma[0..steps] (engine/solvers.h, where num_train and inverted
 * are explained), the weights of guidance behind the solver's columns. sigma NULL: none. */
enum { KW__FLOW_GUIDANCE = KW__STEP_COLUMNS };
struct kw__iterations kw__guided_flow(struct kw__program *program, const double *sigma, double num_train,
                                      bool inverted, int64_t steps);
/* sigma[0..steps] of kw__linear_quadratic, shifted as the request says, in the program's arena. */
double *kw__shifted_linear_quadratic(struct kw__program *program, int64_t steps, double threshold);

/* ---- Decoding in tiles (tiles.c) ---- */

enum { KW__MAX_VARIANTS = 4 };
struct kw__tiling {
    int64_t latent[2], tile[2], step[2]; /* rows and columns of latent cells; step <= tile */
    int64_t scale, blend[2];             /* pixels of a cell's side; pixels that two tiles share */
    int64_t z_channels, z_frames, out_channels, out_frames;
    /* Chunks that overlap lie side by side in out_frames: after frame 0 each has time_tile of them (the last
     * fewer), begins time_step later in the clip and shares time_blend with the one before. 0: none do. */
    int64_t time_tile, time_step, time_blend;
    const void *self;
    /* z[B,z_channels,t,h,w] -> [B,out_channels,f,h*scale,w*scale]. Names of its states must hold `shape`: a
     * tile of another shape has its own. */
    int (*decode)(const void *self, struct kw__graph *g, int z, int variant, const char *shape);
};
/* Latent frames that are decoded together. Chunks of one variant have as many frames. */
struct kw__chunk {
    int64_t from, frames, out; /* the first latent frame, how many, the first frame of the result */
    int variant;
    const char *name; /* of the variant */
};

/* Tiles along an axis, and decoded cells over those of the clip: 1.40 is 40 % more than without tiles. */
int64_t kw__tile_count(const struct kw__tiling *tiling, int axis);
double kw__tile_work(const struct kw__tiling *tiling);

/* Adds the phases, which decode the state "z" (made by phases before them) to the state "tiles"; then
 * kw__tiles_output the last phase, where kw__tiles_joined is the clip. */
void kw__tiles_lower(struct kw__program *program, struct kw__stage *stage, const struct kw__tiling *tiling,
                     int64_t num_chunks, const struct kw__chunk *chunks);
/* x[B,3,F,H,W], clamped to -1..1, to the host as the state `frames`. */
void kw__hand_over_frames(struct kw__graph *g, int x);
struct kw__graph *kw__tiles_output(struct kw__program *program, struct kw__stage *stage);
int kw__tiles_joined(struct kw__graph *g, const struct kw__tiling *tiling);

/* ---- Text encoder: T5 v1.1 and umT5 (t5.c) ---- */

struct kw__t5 {
    int64_t vocab, d_model, d_ff, d_kv, heads, layers, buckets, distance;
    double eps;
    bool bias_per_layer; /* umT5: a table in each block; T5: block 0's for all */
};
kw_status kw__t5_read(kw_model *model, struct kw__t5 *out, kw_error *err);
/* ids[B,L], length[B] -> hidden[B,L,d_model]; keys at or after length are masked, none when it is 0. */
int kw__t5_encode(struct kw__graph *g, const struct kw__t5 *config, int ids, int length,
                  enum kw__dtype dtype);

/* ---- Text encoder: CLIP (clip.c) ---- */

struct kw__clip_text {
    int64_t vocab, d, ffn, heads, layers, positions;
    double eps;
    enum kw__activation activation;
};
/* Of a component: "text_encoder". */
kw_status kw__clip_text_read(kw_model *model, const char *component, struct kw__clip_text *out,
                             kw_error *err);
/* ids[B,L], L at most config->positions -> hidden[B,L,d] */
int kw__clip_text_encode(struct kw__graph *g, const struct kw__clip_text *config, int ids,
                         enum kw__dtype dtype);

/* ---- Text encoder: Llama (llama.c) ---- */

struct kw__llama {
    int64_t vocab, d, ffn, heads, kv_heads, layers;
    double theta, eps;
};
struct kw__llama_states {
    int hidden; /* before the last `skip` blocks */
    int last;   /* after all of them and the norm */
};
kw_status kw__llama_read(kw_model *model, struct kw__llama *out, kw_error *err);
/* template[B,M], ids[B,L], length[B] of ids -> hidden[B,M+L,d]; skip at least 1, at most the layers. Rows at
 * or after M + length are of padding, and nothing before them depends on it. */
struct kw__llama_states kw__llama_encode(struct kw__graph *g, const struct kw__llama *config, int template,
                                         int ids, int length, int64_t skip, enum kw__dtype dtype);

/* ---- Video decoder: AutoencoderKLWan (wan_vae.c) ---- */

enum { KW__WAN_VAE_LEVELS = 4, KW__WAN_VAE_MAX_Z = 64 };
struct kw__wan_vae {
    int64_t base_dim, z_dim, dim_mult[KW__WAN_VAE_LEVELS], num_res_blocks; /* base_dim: the decoder's */
    int64_t patch; /* pixels of a side that are channels of one in the decoder */
    bool residual; /* Wan2.2's: what an up block is given is added to its result */
    bool time_upsample[KW__WAN_VAE_LEVELS - 1]; /* of up_blocks.i */
    double mean[KW__WAN_VAE_MAX_Z], std[KW__WAN_VAE_MAX_Z];
    int64_t space_factor, time_factor; /* pixels of a latent cell's side, frames of a later latent frame */
};
kw_status kw__wan_vae_read(kw_model *model, struct kw__wan_vae *out, kw_error *err);
void kw__wan_vae_lower(const struct kw__wan_vae *config, struct kw__program *program);

/* ---- Video decoder: AutoencoderKLCogVideoX (cogvideox_vae.c) ---- */

enum { KW__COG_VAE_LEVELS = 4, KW__COG_VAE_MAX_Z = 64 };
/* Of one axis: cells of a tile, from one to the next, and pixels in which two are blended. */
struct kw__cog_tiles {
    int64_t size, step, blend;
};
struct kw__cog_vae {
    int64_t channels[KW__COG_VAE_LEVELS], z_dim, layers, groups, time_factor, space_factor;
    double scaling_factor;
    struct kw__cog_tiles tiles[2]; /* of rows, of columns */
};
kw_status kw__cog_vae_read(kw_model *model, struct kw__cog_vae *out, kw_error *err);
/* Frames that so many latent frames become. */
int64_t kw__cog_vae_frames(const struct kw__cog_vae *config, int64_t latent_frames);
void kw__cog_vae_lower(const struct kw__cog_vae *config, struct kw__program *program);

/* ---- Video decoder: AutoencoderKLMochi (mochi_vae.c) ---- */

enum { KW__MOCHI_VAE_LEVELS = 4, KW__MOCHI_VAE_MAX_Z = 64 };
struct kw__mochi_vae {
    int64_t z_dim, channels[KW__MOCHI_VAE_LEVELS], layers[KW__MOCHI_VAE_LEVELS + 1];
    int64_t time[KW__MOCHI_VAE_LEVELS - 1], space[KW__MOCHI_VAE_LEVELS - 1]; /* the widest frames first */
    double mean[KW__MOCHI_VAE_MAX_Z], std[KW__MOCHI_VAE_MAX_Z];
    int64_t space_factor, time_factor; /* pixels of a latent cell's side, frames of a latent frame */
    int64_t widest;                    /* of the channels */
};
kw_status kw__mochi_vae_read(kw_model *model, struct kw__mochi_vae *out, kw_error *err);
void kw__mochi_vae_lower(const struct kw__mochi_vae *config, struct kw__program *program);

/* ---- Video decoder: AutoencoderKLHunyuanVideo (hunyuan_vae.c) ---- */

enum { KW__HUNYUAN_VAE_LEVELS = 4, KW__HUNYUAN_VAE_MAX_Z = 64 };
struct kw__hunyuan_vae {
    int64_t channels[KW__HUNYUAN_VAE_LEVELS], z_dim, layers, groups;
    int64_t widest; /* of the channels */
    double scaling_factor;
    bool attends; /* between the residual blocks of the lowest level */
};
enum { KW__HUNYUAN_SPACE = 8, KW__HUNYUAN_TIME = 4 }; /* pixels of a cell's side, frames of a latent frame */
kw_status kw__hunyuan_vae_read(kw_model *model, struct kw__hunyuan_vae *out, kw_error *err);
void kw__hunyuan_vae_lower(const struct kw__hunyuan_vae *config, struct kw__program *program);

/* ---- Image decoder: AutoencoderKL (sd_vae.c) ---- */

enum { KW__SD_VAE_LEVELS = 4, KW__SD_VAE_MAX_Z = 64 };
struct kw__sd_vae {
    int64_t channels[KW__SD_VAE_LEVELS], z_dim, layers, groups, space_factor;
    double scaling_factor;
    int64_t tile, tile_step, blend; /* cells of a tile's side and from one to the next, pixels of blending */
};
kw_status kw__sd_vae_read(kw_model *model, struct kw__sd_vae *out, kw_error *err);
/* From the state latents[B,z_dim,num_frames,h,w] to the state "frames". */
void kw__sd_vae_lower(const struct kw__sd_vae *config, struct kw__program *program);

/* ---- Video decoder and latent upscaler: AutoencoderKLLTXVideo, LTXLatentUpsamplerModel (ltx_vae.c) ---- */

enum { KW__LTX_VAE_LEVELS = 3, KW__LTX_VAE_MAX_Z = 512 };
struct kw__ltx_vae {
    int64_t z_dim, channels[KW__LTX_VAE_LEVELS], layers[KW__LTX_VAE_LEVELS + 1];
    int64_t widest; /* of the channels */
    double scaling_factor;
};
kw_status kw__ltx_vae_read(kw_model *model, struct kw__ltx_vae *out, kw_error *err);
void kw__ltx_vae_lower(const struct kw__ltx_vae *config, struct kw__program *program);

struct kw__ltx_upscaler {
    int64_t channels, width, blocks; /* blocks before the upsampling, and as many after */
};
kw_status kw__ltx_upscaler_read(kw_model *model, struct kw__ltx_upscaler *out, kw_error *err);
/* latents[B,C,T,h,w] in f32 -> [B,C,T,2h,2w] in the VAE's dtype */
int kw__ltx_upscale(const struct kw__ltx_upscaler *config, const struct kw__ltx_vae *vae, struct kw__graph *g,
                    int latents);

#endif
