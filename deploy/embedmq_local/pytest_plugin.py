"""Which fixtures does the local stack give to the test suites of those who use us?"""
