"""Why a search gave what it gave: as values, as text, as a picture and as a page.

Knows neither disk nor mathematics: the engine fills the values in, and matplotlib, which the
pictures alone need, is imported when one is drawn.
"""
