"""What does an on-call person ask, and what do the dashboard, the alerts and docs/monitoring.md answer?"""
