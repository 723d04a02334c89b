"""What a bitcoin costs elsewhere, for pages only: never decides, never stored, never in the API or in a receipt."""
