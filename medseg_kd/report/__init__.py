"""What runs, pairs and models are shown as: tables and pages."""
