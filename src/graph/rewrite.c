#include "graph/rewrite.h"

#include <string.h>

#include "base/error.h"

static const struct {
    const char *name, *about;
    void (*apply)(struct kw__program *program);
} rewrites[] = {
    {"real_text_tokens", "encode the prompt's tokens only, without the padding that the text encoder masks",
     kw__rewrite_real_text_tokens},
    {"one_pad_key", "attend to one padded text token, counted as often as there are padded ones",
     kw__rewrite_one_pad_key},
    {"share_passes", "compute once what the guidance passes have in common", kw__rewrite_share_passes},
    {"fuse_qkv", "one matrix product for the projections that feed one attention from one input",
     kw__rewrite_fuse_qkv},
    {"fuse_norm_modulate", "one kernel for LayerNorm, scale and shift", kw__rewrite_fuse_norm_modulate},
    {"fuse_norm_rope", "one kernel for the RMSNorm and the rotary embedding of q and of k",
     kw__rewrite_fuse_norm_rope},
    {"fuse_gelu", "GELU in the matrix product before it, or with the product of a gated MLP",
     kw__rewrite_fuse_gelu},
    {"fuse_gate", "gate and residual addition in the matrix product before them", kw__rewrite_fuse_gate},
    {"fuse_norm_silu", "one kernel for the VAE's RMSNorm and SiLU", kw__rewrite_fuse_norm_silu},
    {"fuse_conv_add", "residual addition in the convolution before it", kw__rewrite_fuse_conv_add},
    {"fuse_upsample", "convolutions read the small image, and no upsampled one is written",
     kw__rewrite_fuse_upsample},
    {"fold_upsample", "3x3 after upsampling as four 2x2 convolutions, 16/36 of the work; after fuse_upsample",
     kw__rewrite_fold_upsample},
    {"hoist_prompt",
     "compute once what is the same at every denoising step: text projection, K, V, rotary table",
     kw__rewrite_hoist_prompt},
};
enum { NUM_REWRITES = sizeof rewrites / sizeof rewrites[0] };

size_t kw__rewrite_count(void)
{
    return NUM_REWRITES;
}

const char *kw__rewrite_name(size_t index)
{
    return rewrites[index].name;
}

const char *kw__rewrite_about(size_t index)
{
    return rewrites[index].about;
}

kw_status kw__rewrite_apply(struct kw__program *program, const char *name, kw_error *err)
{
    const char *names[NUM_REWRITES];
    for (int i = 0; i < NUM_REWRITES; i++) {
        names[i] = rewrites[i].name;
        if (strcmp(names[i], name) != 0) continue;
        rewrites[i].apply(program);
        return program->arena.failed ? kw__fail_memory(err) : KW_OK;
    }
    const char *nearest = kw__nearest_name(name, names, NUM_REWRITES);
    return kw__fail(err, KW_ERROR_FORMAT, "unknown rewrite \"%s\"%s%s%s", name,
                    nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}
