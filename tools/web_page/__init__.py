"""Parts of tools/web_demo.py."""
