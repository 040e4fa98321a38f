"""The program that draws dashboards, and dashboards of many services and segments."""
