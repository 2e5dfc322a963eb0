"""The named algorithms: each is a row of settings of the same parts, with no code of its own.

A row fills in the keys of the recipe's ``search`` section; what the recipe says itself comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """A named setting of roll-in, decisions, roll-out, cost and loss."""

    paper: str
    summary: str
    settings: dict[str, Any]
    """Nested like the recipe's ``search`` section."""


_DAGGER = {"schedule": "exponential", "start": 1.0, "end": 0.0, "updates": 500}
_SEARN = {"schedule": "exponential", "start": 1.0, "end": 0.0, "updates": 1000}

_LOLS: dict[str, Any] = {
    "roll_in": {"policy": "learned", "decoding": "greedy"},
    "decisions": {"states": "uniform", "per_sentence": 3, "candidates": "top_k", "k": 4},
    "roll_out": {
        "policy": "mixed",
        "p_reference": {"schedule": "constant", "start": 0.5},
        "mix_unit": "decision",
    },
    "cost": {"name": "bleu"},
    "loss": {"name": "expected_cost", "weight": 4.0, "cross_entropy": 0.5},
}

ALGORITHMS: dict[str, Algorithm] = {
    "teacher_forcing": Algorithm(
        paper="Williams & Zipser 1989; in imitation learning: behaviour cloning",
        summary="roll in with the reference, predict its next token; no search",
        settings={
            "roll_in": {"policy": "reference"},
            "roll_out": {"policy": "none"},
            "loss": {"weight": 0.0, "cross_entropy": 1.0},
        },
    ),
    "scheduled_sampling": Algorithm(
        paper="Bengio et al. 2015, Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
        summary="each token of the roll-in by the target or the model; predict the target's token at that position",
        settings={
            "roll_in": {
                "policy": "mixed",
                "p_reference": {"schedule": "inverse_sigmoid", "start": 1.0, "end": 0.75, "updates": 2000},
                "decoding": "sample",
            },
            "reference": {"name": "copy"},
            "loss": {"name": "target_learning", "weight": 0.5, "cross_entropy": 0.5},
        },
    ),
    "searn": Algorithm(
        paper="Daumé, Langford & Marcu 2009, Search-based Structured Prediction",
        summary="roll-in and roll-out by one mixture, drawn at each state, that goes from reference to model",
        settings={
            "roll_in": {"policy": "mixed", "p_reference": _SEARN},
            "decisions": {"states": "uniform", "per_sentence": 3, "candidates": "top_k", "k": 4},
            "roll_out": {"policy": "mixed", "mix_unit": "state", "p_reference": _SEARN},
            "cost": {"name": "bleu"},
            "loss": {"name": "expected_cost", "weight": 4.0, "cross_entropy": 0.5},
        },
    ),
    "dagger": Algorithm(
        paper="Ross, Gordon & Bagnell 2011, A Reduction of Imitation Learning to No-Regret Online Learning",
        summary="imitate the reference's action at the states the model visits, on all data aggregated so far",
        settings={
            "roll_in": {
                "policy": "mixed",
                "p_reference": _DAGGER,
                "mix_unit": "sentence",
                "decoding": "sample",
                "temperature": 0.7,
            },
            "reference": {"name": "edit_distance"},
            "aggregation": {"replay": 1},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "target_learning", "weight": 0.1, "cross_entropy": 1.0},
        },
    ),
    "ocd": Algorithm(
        paper="Sabour, Chan & Norouzi 2019, Optimal Completion Distillation for Sequence Learning",
        summary="DAgger with the exact edit-distance oracle: learn all optimal next tokens on sampled roll-ins",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample", "temperature": 0.7},
            "reference": {"name": "edit_distance"},
            "roll_out": {"policy": "reference"},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "target_learning", "weight": 0.1, "cross_entropy": 1.0},
        },
    ),
    "imitkd": Algorithm(
        paper="Lin et al. 2020, Autoregressive Knowledge Distillation through Imitation Learning",
        summary="DAgger with other models as the expert: imitate what they expect after the model's own prefixes",
        settings={
            "roll_in": {
                "policy": "mixed",
                "p_reference": _DAGGER,
                "mix_unit": "sentence",
                "decoding": "sample",
            },
            "reference": {"name": "edit_distance"},
            "decisions": {"k": 32},
            "roll_out": {"policy": "expert"},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "kl", "alpha": 1.0, "weight": 1.0, "cross_entropy": 0.0},
        },
    ),
    "coaching": Algorithm(
        paper="He, Daumé & Eisner 2012, Imitation Learning by Coaching",
        summary="DAgger whose reference shows an action that is good and easy: argmin cost - coaching * log p",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample", "temperature": 0.7},
            "reference": {"name": "edit_distance", "coaching": 0.2},
            "aggregation": {"replay": 1},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "target_learning", "weight": 0.1, "cross_entropy": 1.0},
        },
    ),
    "aggrevate": Algorithm(
        paper="Ross & Bagnell 2014, Reinforcement and Imitation Learning via Interactive No-Regret Learning",
        summary="one state a sentence, every candidate finished by the reference, regression of the cost-to-go",
        settings={
            "roll_in": {
                "policy": "mixed",
                "p_reference": {"schedule": "exponential", "start": 0.5, "end": 0.0, "updates": 500},
                "mix_unit": "sentence",
            },
            "decisions": {"states": "uniform", "per_sentence": 1, "candidates": "top_k", "k": 8},
            "roll_out": {"policy": "reference"},
            "cost": {"name": "bleu"},
            "loss": {
                "name": "cost_regression",
                "support": "candidates",
                "alpha": 40.0,
                "weight": 0.02,
                "cross_entropy": 1.0,
            },
        },
    ),
    "aggrevated": Algorithm(
        paper="Sun et al. 2017, Deeply AggreVaTeD; costs by the dynamic programme of Sabour et al. 2019",
        summary="sampled roll-in, exact edit-distance advantages at every position over the full vocabulary",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample", "temperature": 0.7},
            "reference": {"name": "edit_distance"},
            "roll_out": {"policy": "reference"},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "expected_cost", "weight": 4.0, "cross_entropy": 0.5},
        },
    ),
    "beam_aggrevated": Algorithm(
        paper="Negrinho et al. 2018, Learning Beam Search Policies via Imitation Learning; costs as in aggrevated",
        summary="AggreVaTeD on several sampled roll-ins a sentence, whose prefixes of a length are priced as one beam",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample", "temperature": 0.7, "samples": 8},
            "reference": {"name": "edit_distance"},
            "roll_out": {"policy": "reference"},
            "cost": {"name": "edit_distance"},
            "loss": {"name": "beam_expected_cost", "alpha": 0.2, "weight": 4.0, "cross_entropy": 0.5},
        },
    ),
    "lols": Algorithm(
        paper="Chang et al. 2015, Learning to Search Better Than Your Teacher",
        summary="learned roll-in, one-step deviations finished by the model or, by chance, the reference",
        settings=_LOLS,
    ),
    "searnn": Algorithm(
        paper="Leblond et al. 2018, SEARNN: Training RNNs with Global-Local Losses",
        summary="reference roll-in, roll-outs by the model or, per sentence, the reference, KL to softmax(-alpha cost)",
        settings={
            "roll_in": {"policy": "reference"},
            "decisions": {"states": "uniform", "per_sentence": 3, "candidates": "biased", "k": 4},
            "roll_out": {"policy": "mixed", "p_reference": {"schedule": "constant", "start": 0.5}},
            "cost": {"name": "bleu"},
            "loss": {"name": "kl", "alpha": 20.0, "weight": 0.1, "cross_entropy": 1.0},
        },
    ),
    "bandit_lols": Algorithm(
        paper="Chang et al. 2015; Daumé, Langford & Sharaf 2018, Residual Loss Prediction",
        summary="LOLS from one deviation a sentence, which the model finishes, and its observed loss",
        settings={
            "roll_in": {"policy": "learned", "decoding": "greedy"},
            "decisions": {"states": "uniform", "per_sentence": 1, "candidates": "top_k", "k": 4},
            "roll_out": {"policy": "learned"},
            "bandit": {"exploration": "boltzmann", "estimator": "doubly_robust"},
            "cost": {"name": "bleu"},
            "loss": {"name": "expected_cost", "weight": 0.1, "cross_entropy": 0.5},
        },
    ),
    "reinforce": Algorithm(
        paper="Williams 1992; Ranzato et al. 2016; baseline of Rennie et al. 2017",
        summary="sampled roll-in, each token's log-probability times the loss less that of greedy decoding",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample"},
            "decisions": {"candidates": "taken"},
            "roll_out": {"policy": "trajectory", "baseline": "greedy"},
            "cost": {"name": "bleu"},
            "loss": {"name": "policy_gradient", "weight": 1.0, "cross_entropy": 0.5},
        },
    ),
    "minimum_risk": Algorithm(
        paper="Shen et al. 2016, Minimum Risk Training for Neural Machine Translation",
        summary="several sampled translations a sentence, the expected loss renormalised over them",
        settings={
            "roll_in": {"policy": "learned", "decoding": "sample", "samples": 4},
            "decisions": {"candidates": "taken"},
            "roll_out": {"policy": "trajectory"},
            "cost": {"name": "bleu"},
            "loss": {"name": "minimum_risk", "alpha": 0.05, "weight": 1.0, "cross_entropy": 0.5},
        },
    ),
    "search_expert": Algorithm(
        paper="Anthony, Tian & Barber 2017, Thinking Fast and Slow with Deep Learning and Tree Search",
        summary="learned roll-in, costs from Monte Carlo tree search over the true loss",
        settings={
            "roll_in": {"policy": "learned", "decoding": "greedy"},
            "reference": {"name": "mcts"},
            "decisions": {"states": "uniform", "per_sentence": 1},
            "roll_out": {"policy": "reference"},
            "cost": {"name": "bleu"},
            "loss": {"name": "expected_cost", "weight": 4.0, "cross_entropy": 0.5},
        },
    ),
    "hierarchical": Algorithm(
        paper="Le et al. 2018, Hierarchical Imitation and Reinforcement Learning",
        summary="LOLS that verifies segments first and rolls out only where the first one failed",
        settings={**_LOLS, "decisions": {"states": "failed_segments", "candidates": "top_k", "k": 4}},
    ),
}
