"""Forty named architectures in tiny configurations: what the optimizer has to hold on.

Each line is data: the library, how its model is built, and the kind of batch that it takes. Nothing
is downloaded, and no weight is pretrained. Widths are tiny and depths two, so that what a
block repeats is there and the whole list trains in minutes on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

CLASSES, VOCABULARY, FEATURES = 5, 50, 24

Inputs = Literal["tokens", "pairs", "audio", "images", "video", "graph"]


@dataclass(frozen=True)
class Architecture:
    """One line of the zoo.

    Attributes:
        name: Name in the table and in test ids.
        library: Package that it is built from.
        build: Name of what builds it: of transformers the configuration and the model, separated by
            a space; of timm the model's name or a class within it; of the other two
            the class or function.
        inputs: Kind of batch.
        options: Arguments of the configuration.
        size: Height and width of images.
    """

    name: str
    library: Literal["transformers", "timm", "torchvision", "torch_geometric"]
    build: str
    inputs: Inputs
    options: dict[str, Any] = field(default_factory=dict)
    size: int = 32


_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 1}
_CLASSES = {"num_labels": CLASSES}
_AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16, 16),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "apply_spec_augment": False,
}

TRANSFORMERS = (
    Architecture(
        "bert",
        "transformers",
        "BertConfig BertForSequenceClassification",
        "tokens",
        _ENCODER | _CLASSES,
    ),
    Architecture(
        "distilbert",
        "transformers",
        "DistilBertConfig DistilBertForSequenceClassification",
        "tokens",
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 16}
        | _CLASSES,
    ),
    Architecture(
        "electra",
        "transformers",
        "ElectraConfig ElectraForSequenceClassification",
        "tokens",
        _ENCODER | _CLASSES | {"embedding_size": 16},
    ),
    Architecture(
        "albert",
        "transformers",
        "AlbertConfig AlbertForSequenceClassification",
        "tokens",
        _ENCODER | _CLASSES | {"embedding_size": 16},
    ),
    Architecture(
        "deberta_v2",
        "transformers",
        "DebertaV2Config DebertaV2ForSequenceClassification",
        "tokens",
        _ENCODER
        | _CLASSES
        | {
            "relative_attention": True,
            "position_buckets": 4,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "pooler_hidden_size": 32,
        },
    ),
    Architecture(
        "gpt2",
        "transformers",
        "GPT2Config GPT2LMHeadModel",
        "tokens",
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 16},
    ),
    Architecture(
        "gpt_neox", "transformers", "GPTNeoXConfig GPTNeoXForCausalLM", "tokens", _ENCODER
    ),
    Architecture(
        "opt",
        "transformers",
        "OPTConfig OPTForCausalLM",
        "tokens",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 64,
            "max_position_embeddings": 16,
            "word_embed_proj_dim": 32,
        },
    ),
    Architecture(
        "bloom",
        "transformers",
        "BloomConfig BloomForCausalLM",
        "tokens",
        {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    ),
    Architecture("llama", "transformers", "LlamaConfig LlamaForCausalLM", "tokens", _DECODER),
    Architecture(
        "mixtral",
        "transformers",
        "MixtralConfig MixtralForCausalLM",
        "tokens",
        _DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    Architecture(
        "qwen3",
        "transformers",
        "Qwen3Config Qwen3ForCausalLM",
        "tokens",
        _DECODER | {"head_dim": 16},
    ),
    Architecture(
        "gemma2",
        "transformers",
        "Gemma2Config Gemma2ForCausalLM",
        "tokens",
        _DECODER | {"head_dim": 16, "query_pre_attn_scalar": 16},
    ),
    Architecture(
        "t5",
        "transformers",
        "T5Config T5ForConditionalGeneration",
        "pairs",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    ),
    Architecture(
        "whisper",
        "transformers",
        "WhisperConfig WhisperForConditionalGeneration",
        "audio",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "max_target_positions": 16,
        },
    ),
    Architecture(
        "wavlm",
        "transformers",
        "WavLMConfig WavLMForSequenceClassification",
        "audio",
        _AUDIO | _CLASSES,
    ),
)

_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
_SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "depths": (2, 2), "num_heads": (2, 4)}

TIMM = (
    Architecture("resnet", "timm", "resnet18", "images", {"channels": (8, 8, 16, 16)}),
    Architecture(
        "resnetv2_bit",
        "timm",
        "resnetv2_50x1_bit",
        "images",
        {"channels": (128, 128, 256, 256), "stem_chs": 32},
    ),
    Architecture("nf_resnet", "timm", "nf_resnet26", "images"),
    Architecture("regnety", "timm", "regnety_002", "images"),
    Architecture("efficientnet", "timm", "efficientnet_lite0", "images"),
    Architecture("mobilenetv3", "timm", "mobilenetv3_small_050", "images"),
    Architecture("densenet", "timm", "densenet121", "images", {"block_config": (2, 2)}),
    Architecture(
        "convnext",
        "timm",
        "convnext_atto",
        "images",
        {"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32)},
    ),
    Architecture("vit", "timm", "vit_tiny_patch16_224", "images", _VIT | {"init_values": 0.1}),
    Architecture(
        "beit",
        "timm",
        "beit_base_patch16_224",
        "images",
        _VIT | {"init_values": 0.1},
    ),
    Architecture("eva02", "timm", "eva02_tiny_patch14_224", "images", _VIT),
    Architecture(
        "swin", "timm", "swin_tiny_patch4_window7_224", "images", _SWIN | {"embed_dim": 32}
    ),
    Architecture("swinv2", "timm", "swinv2_tiny_window8_256", "images", _SWIN | {"embed_dim": 32}),
    Architecture(
        "mixer",
        "timm",
        "models.mlp_mixer.MlpMixer",
        "images",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "num_blocks": 2},
    ),
)

TORCHVISION = (
    Architecture("tv_resnet", "torchvision", "resnet18", "images", {"width_per_group": 64}),
    Architecture("tv_mobilenet_v3", "torchvision", "mobilenet_v3_small", "images"),
    Architecture(
        "tv_vit",
        "torchvision",
        "VisionTransformer",
        "images",
        {
            "image_size": 32,
            "patch_size": 8,
            "num_layers": 2,
            "num_heads": 2,
            "hidden_dim": 32,
            "mlp_dim": 64,
        },
    ),
    Architecture("tv_convnext", "torchvision", "convnext_tiny", "images"),
    Architecture("tv_swin_v2", "torchvision", "swin_v2_t", "images"),
    Architecture(
        "tv_swin3d",
        "torchvision",
        "video.swin_transformer.SwinTransformer3d",
        "video",
        {
            "patch_size": [2, 4, 4],
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": [2, 4, 4],
            "stochastic_depth_prob": 0.0,
        },
    ),
)

_GRAPH = {
    "in_channels": FEATURES,
    "hidden_channels": 32,
    "num_layers": 2,
    "out_channels": CLASSES,
    "norm": "batch_norm",
}
GEOMETRIC = tuple(
    Architecture(name, "torch_geometric", build, "graph", _GRAPH | options)
    for name, build, options in (
        ("gcn", "GCN", {}),
        ("graphsage", "GraphSAGE", {"norm": "layer_norm"}),
        ("gin", "GIN", {"train_eps": True}),
        ("gat", "GAT", {"v2": False, "heads": 2}),
    )
)

ZOO = TRANSFORMERS + TIMM + TORCHVISION + GEOMETRIC
