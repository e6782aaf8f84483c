"""Nouns that every layer shares: number formats, units, errors, results. Imports nothing of supertwin above itself."""
