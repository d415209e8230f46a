"""Runs a text-to-video pipeline of diffusers on random weights, with kinowatt's windows around its stages.

    python stacks/diffusers/run.py wan2.1-t2v-1.3b --width 832 --height 480 --num-inference-steps 20
    kinowatt record -- python stacks/diffusers/run.py cogvideox-2b
    python stacks/diffusers/run.py --configs PLAN.jsonl --results OUT.jsonl --budget 450

What is not given is as the paper ran that model, or its pipeline's own example does. A plan has one point a line, a JSON object with the
options' names (underscores for hyphens), "model", "name" (its window) and, if you like:
    estimate_s   what it will take: a point that no longer fits in the budget is left out, and said so
    reserved     true: its time is kept free for it from the start (an anchor at the end of a session)
Points that follow each other on the same model share its weights. Names that RESULTS already holds are
done and left out, so a plan that was interrupted goes on.
"""

import argparse
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import sys
import time

FAMILIES = {  # _class_name of model_index.json: the module
    "AnimateDiffPipeline": "animatediff",
    "CogVideoXPipeline": "cogvideox",
    "HunyuanVideoPipeline": "hunyuan",
    "LTXConditionPipeline": "ltx",
    "MochiPipeline": "mochi",
    "WanPipeline": "wan",
}


@dataclasses.dataclass
class Settings:
    """A point. None stands for the family's default."""

    model: str
    name: str = None
    width: int = None
    height: int = None
    num_frames: int = None
    num_inference_steps: int = None
    guidance_scale: float = None
    batch_size: int = 1
    seed: int = 0
    prompt_tokens: int = 30  # those that a tokenizer adds at the ends counted
    negative_tokens: int = 1
    weights: str = "random:0:normal"
    vae_dtype: str = None
    tiling: bool = None
    offload: bool = None
    output_type: str = None
    output: str = None
    warmup: int = 1
    warmup_steps: int = None
    repeats: int = 1
    estimate_s: float = 0.0
    reserved: bool = False
    note: str = None


# ---- Time ----


class Budget:
    """Which points still fit. Estimates are corrected by how wrong they were so far, never downwards."""

    def __init__(self, seconds, points, clock=time.monotonic):
        self.clock, self.end = clock, clock() + seconds
        self.reserved = {p.name: p.estimate_s for p in points if p.reserved}
        self.estimated = self.taken = 0.0

    def slowness(self):
        return max(1.0, self.taken / self.estimated) if self.estimated else 1.0

    def admits(self, point):
        held = sum(s for name, s in self.reserved.items() if name != point.name)
        return self.clock() + (point.estimate_s + held) * self.slowness() <= self.end

    def done(self, point, seconds):
        self.reserved.pop(point.name, None)
        self.estimated += point.estimate_s
        self.taken += seconds if point.estimate_s else 0.0


# ---- Running ----


class Runner:
    """Holds the model in use."""

    def __init__(self):
        try:
            import common
        except ImportError as error:
            raise SystemExit(f"{error}; stacks/diffusers/README.md says what the runners need") from None
        self.common, self.stages = common, common.Stages()
        self.key = self.pipe = self.attention = None

    def fill(self, settings):
        """The settings with the family's defaults."""
        folder = self.common.find_model(settings.model)
        kind = self.common.read_json(folder, "model_index.json")["_class_name"]
        if kind not in FAMILIES:
            raise SystemExit(f"{settings.model}: no runner for {kind}, only for {', '.join(FAMILIES)}")
        self.family = importlib.import_module(FAMILIES[kind])
        missing = {k: v for k, v in self.family.DEFAULTS.items() if getattr(settings, k) is None}
        return dataclasses.replace(settings, **missing)

    def prepare(self, settings):
        """Builds the model, unless the last point left it there."""
        key = (settings.model, settings.weights, settings.vae_dtype, settings.offload)
        if key != self.key:
            self.key = self.pipe = self.attention = None
            gc.collect()
            if self.common.DEVICE == "cuda":
                self.common.torch.cuda.empty_cache()
            with kinowatt().window("load"):
                self.pipe = self.family.build(self.common.find_model(settings.model), settings, self.stages)
                self.pipe.set_progress_bar_config(disable=True)
                if settings.offload:
                    self.pipe.enable_model_cpu_offload()
            self.key = key
        (self.pipe.vae.enable_tiling if settings.tiling else self.pipe.vae.disable_tiling)()

    def generate(self, settings):
        """One generation. Leaves its stages in self.stages."""
        common, prompt, clips = self.common, self.pipe.tokenizer.prompt, range(settings.batch_size)
        request = {
            "prompt": [prompt(settings.prompt_tokens, 2 * i) for i in clips],
            "negative_prompt": [prompt(settings.negative_tokens, 2 * i + 1) for i in clips],
            "generator": common.torch.Generator(common.DEVICE).manual_seed(settings.seed),
        }
        names = ("width", "height", "num_frames", "num_inference_steps", "guidance_scale", "output_type")
        request |= {name: getattr(settings, name) for name in names}
        self.stages.clear()
        try:
            return self.family.generate(self.pipe, request, self.stages)
        finally:
            self.stages.leave()

    def warm_up(self, settings):
        if settings.warmup_steps:
            settings = dataclasses.replace(settings, num_inference_steps=settings.warmup_steps)
        with self.common.AttentionSpy(self.stages) as spy:
            row = self.measure(settings, "warmup")
        self.attention = row["attention"] = spy.counts
        return row

    def measure(self, settings, window):
        """One generation in a window: its row."""
        self.common.synchronize()
        self.common.forget_peak()
        start = time.monotonic()
        with kinowatt().window(window) if window else contextlib.nullcontext():
            frames = self.generate(settings)
        return self.row(settings, "/".join(filter(None, (settings.name, window))), start, frames)

    def point(self, settings):
        """A row for each warm-up and each repeat, as it comes."""
        settings = self.fill(settings)
        with kinowatt().window(settings.name) if settings.name else contextlib.nullcontext():
            self.prepare(settings)
            for _ in range(settings.warmup):
                yield self.warm_up(settings)
            for i in range(settings.repeats):
                yield self.measure(settings, f"repeat-{i + 1}" if settings.name or settings.repeats > 1 else None)

    def row(self, settings, window, start, frames):
        common, latents = self.common, self.stages.latents
        end = self.stages.spans[-1]["end_s"]
        array = common.as_array(frames)
        if settings.output:
            common.np.save(settings.output, array)
        shape = list(latents.shape)
        return {
            "window": window,
            "start_s": start,
            "end_s": end,
            "seconds": end - start,
            "stages": self.stages.spans,
            "settings": dataclasses.asdict(settings),
            "full_steps": self.family.DEFAULTS["num_inference_steps"],
            "frames_out": array.shape[0],
            "size_out": [array.shape[2], array.shape[1]],
            "latents": shape,
            "tokens": common.tokens(self.pipe, shape),
            "latents_finite": bool(common.torch.isfinite(latents).all()),
            "frames_constant": bool(array.min() == array.max()),
            "attention": self.attention,
            "dtypes": common.describe(self.pipe),
            "peak_bytes": common.peak_bytes(),
        }


def kinowatt():
    import kinowatt

    return kinowatt


def summary(row):
    stages = ", ".join(f"{s['name']} {s['end_s'] - s['start_s']:.3f}" for s in row["stages"])
    faults = [] if row["latents_finite"] else ["latents are not finite"]
    if row["frames_constant"] and not row["settings"]["weights"].endswith("zeros"):
        faults.append("all pixels are the same")
    return f"{row['window'] or row['settings']['model']}: {row['seconds']:.3f} s ({stages}){'; '.join([''] + faults)}"


def run_plan(points, runner, write, budget, done=()):
    """All points that are not done and fit. A point that fails is reported, and the next one tried."""
    failed = 0
    for point in points:
        if point.name in done:
            continue
        if not budget.admits(point):
            write({"skipped": point.name, "estimate_s": point.estimate_s})
            print(f"{point.name}: left out, as its {point.estimate_s:.0f} s no longer fit", flush=True)
            continue
        start = budget.clock()
        try:
            for row in runner.point(point):
                write(row)
                print(summary(row), flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next point may do
            failed += 1
            runner.key = None
            write({"failed": point.name, "error": f"{type(error).__name__}: {error}"})
            print(f"{point.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        budget.done(point, budget.clock() - start)
    return failed


def read_plan(path):
    with open(path) as file:
        points = [Settings(**json.loads(line)) for line in file if line.strip()]
    for i, point in enumerate(points):
        point.name = point.name or f"point-{i + 1}"
    return points


def names_done(path):
    """Points whose last repeat is in the results."""
    found = set()
    if path and os.path.exists(path):
        with open(path) as file:
            for row in map(json.loads, file):
                if row.get("window", "").endswith(f"/repeat-{row.get('settings', {}).get('repeats')}"):
                    found.add(row["settings"]["name"])
    return found


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a folder in diffusers layout, or a model's name")
    flags = {bool: argparse.BooleanOptionalAction}
    for field in dataclasses.fields(Settings):
        if field.name in ("model", "name", "estimate_s", "reserved", "note"):
            continue
        option = "--" + field.name.replace("_", "-")
        if field.type in flags:
            parser.add_argument(option, action=flags[field.type], default=field.default)
        else:
            parser.add_argument(option, type=field.type, default=field.default)
    parser.add_argument("--configs", metavar="PLAN.jsonl", help="run the points of this file")
    parser.add_argument("--results", metavar="OUT.jsonl", help="append a row for each repeat")
    parser.add_argument("--budget", type=float, metavar="SECONDS", default=float("inf"))
    args = parser.parse_args()
    if bool(args.model) == bool(args.configs):
        parser.error("give a model or --configs")
    return args


def main():
    started = time.monotonic()
    args = arguments()
    names = {field.name for field in dataclasses.fields(Settings)}
    single = Settings(**{k: v for k, v in vars(args).items() if k in names}) if args.model else None
    points = [single] if single else read_plan(args.configs)
    done = names_done(args.results)
    runner = Runner()
    versions = runner.common.versions()
    kinowatt().set(**versions)
    with open(args.results, "a") if args.results else contextlib.nullcontext() as file:

        def write(row):
            if file:
                print(json.dumps(row), file=file, flush=True)

        write({"versions": versions})
        budget = Budget(args.budget - (time.monotonic() - started), points)
        failed = run_plan(points, runner, write, budget, done)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
