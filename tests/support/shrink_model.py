"""Copies a model's config folder and makes every component tiny: shrink_model.py FOLDER INTO"""

import json
import os
import shutil
import sys

T5 = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_heads": 4, "num_layers": 2, "vocab_size": 200}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
CHANGES = {
    "WanPipeline": {
        "text_encoder": T5,
        "transformer": {**HEADS, "ffn_dim": 64, "text_dim": 32},
        "transformer_2": {**HEADS, "ffn_dim": 64, "text_dim": 32, "num_layers": 1},
        "vae": {"base_dim": 8, "decoder_base_dim": 8},
    },
    "CogVideoXPipeline": {
        "text_encoder": T5,
        "transformer": {**HEADS, "text_embed_dim": 32, "time_embed_dim": 16},
        "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
    },
    "LTXConditionPipeline": {
        "text_encoder": T5,
        "transformer": {**HEADS, "caption_channels": 32, "cross_attention_dim": 32},
        "vae": {
            "block_out_channels": [8, 8, 16, 16, 32],
            "decoder_block_out_channels": [8, 16, 32],
            "layers_per_block": [1] * 5,
            "decoder_layers_per_block": [1] * 4,
        },
        "latent_upsampler": {"mid_channels": 32, "num_blocks_per_stage": 1},
    },
    "MochiPipeline": {
        "text_encoder": T5,
        "transformer": {**HEADS, "attention_head_dim": 12, "text_embed_dim": 32, "pooled_projection_dim": 16},
        "vae": {
            "encoder_block_out_channels": [32] * 4,
            "decoder_block_out_channels": [32] * 4,
            "layers_per_block": [1] * 5,
        },
    },
    "HunyuanVideoPipeline": {
        "text_encoder": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_hidden_layers": 3,
            "vocab_size": 200,
        },
        "text_encoder_2": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
        },
        "transformer": {
            **HEADS,
            "num_layers": 1,
            "num_single_layers": 1,
            "num_refiner_layers": 1,
            "rope_axes_dim": [4, 6, 6],
            "text_embed_dim": 32,
            "pooled_projection_dim": 32,
        },
        "vae": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4, "layers_per_block": 1},
    },
    "AnimateDiffPipeline": {
        "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2},
        "unet": {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 32, "norm_num_groups": 8},
        "motion_adapter": {"block_out_channels": [32, 32, 64, 64], "motion_norm_num_groups": 8},
        "vae": {"block_out_channels": [32] * 4},
    },
}


def main():
    source, target = sys.argv[1:]
    shutil.copytree(source, target)
    with open(os.path.join(target, "model_index.json")) as file:
        kind = json.load(file)["_class_name"]
    for component, changes in CHANGES[kind].items():
        path = os.path.join(target, component, "config.json")
        if not os.path.exists(path):
            continue
        with open(path) as file:
            config = json.load(file)
        with open(path, "w") as file:
            json.dump({**config, **changes}, file)


if __name__ == "__main__":
    main()
