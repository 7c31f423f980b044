"""Counters, histograms and the record of one turn. Shown by `observe`, made by what is above."""
