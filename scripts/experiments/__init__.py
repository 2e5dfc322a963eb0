"""The parts of run_experiments.py: plan, trainings, results, drawing."""
