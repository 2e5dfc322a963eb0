"""Trained models for other programs and places: CTranslate2, and the Hugging Face hub."""
