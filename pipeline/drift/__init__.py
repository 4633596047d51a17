"""Has the world changed since the champion was trained? Inputs, and predictions against labels."""
