"""What all pages share: the layout, and how a template is filled."""
