"""Makes tests/golden/solvers.json from diffusers' schedulers, with the settings of the models that use
them.

    pip install diffusers==0.40.0 torch==2.11.0
    python tools/reference/make_solvers.py

Each case runs the sampler on one number: x starts at 0.7 (times the schedule's own deviation where it has
one), the model's output is sin(3 x) + t / 1000, and x after each step is kept. Where the schedulers say
float32 that is widened to float64, so the file is what their code means without its rounding; the same
words are in tests/unit/test_solvers.c.
"""

import contextlib
import json
import pathlib

import numpy as np
import torch
import diffusers.schedulers.scheduling_ddim_cogvideox as ddim_module
import diffusers.schedulers.scheduling_euler_discrete as euler_module
import diffusers.schedulers.scheduling_flow_match_euler_discrete as flow_module
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule as ltx_schedule
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule as mochi_schedule

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "solvers.json"


class Wide:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


@contextlib.contextmanager
def wide():
    modules = (ddim_module, euler_module, flow_module)
    patched = [(m, n, getattr(m, n)) for m in modules for n in ("torch", "np") if hasattr(m, n)]
    for module, name, original in patched:
        setattr(module, name, Wide(original))
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        for module, name, original in patched:
            setattr(module, name, original)


def run(scheduler, scale=1.0, from_step=0, sign=1):
    x = torch.tensor([0.7 * scale], dtype=torch.float64)
    steps = []
    for t in scheduler.timesteps[from_step:]:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        v = torch.sin(3 * seen) + t.double() / 1000
        x = scheduler.step(v, t, x, return_dict=False)[0]
        steps.append({"timestep": float(t), "x": float(x)})
    return steps


def ddim(shift, steps):
    s = ddim_module.CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True,
        snr_shift_scale=shift, timestep_spacing="trailing")
    s.set_timesteps(steps)
    return run(s)


def euler(steps):
    s = euler_module.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", timestep_spacing="trailing",
        steps_offset=1)
    s.set_timesteps(steps)
    return run(s, float(s.init_noise_sigma))


def mochi(steps):
    s = flow_module.FlowMatchEulerDiscreteScheduler(shift=1.0, invert_sigmas=True)
    s.set_timesteps(sigmas=np.array(mochi_schedule(steps, 0.025)))
    return run(s)


def ltx(steps, strength):
    s = flow_module.FlowMatchEulerDiscreteScheduler(shift=1.0)
    s.set_timesteps(timesteps=ltx_schedule(steps) * 1000)
    return run(s, from_step=max(steps - min(int(steps * strength), steps), 0))


def main():
    with wide():
        cases = [{"solver": "ddim", "snr_shift": shift, "steps": n, "path": ddim(shift, n)}
                 for shift in (1.0, 3.0) for n in (1, 4, 7, 50)]
        cases += [{"solver": "euler", "steps": n, "path": euler(n)} for n in (1, 4, 7, 30)]
        cases += [{"solver": "mochi", "steps": n, "path": mochi(n)} for n in (2, 5, 64)]
        cases += [{"solver": "ltx", "steps": n, "strength": s, "path": ltx(n, s)}
                  for n, s in ((2, 1.0), (30, 1.0), (10, 0.4), (7, 1.0))]
    OUT.write_text(json.dumps({"diffusers": "0.40.0", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
