"""A run: how it is made, kept, resumed and spread over processes and machines."""
