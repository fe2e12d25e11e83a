"""The campaign: faults and bad input by the hundred, at random moments, against a store and its commands.

`make campaign` runs all of it, `test_campaign.py` a short part. What is promised is in docs/reliability.md.
"""
