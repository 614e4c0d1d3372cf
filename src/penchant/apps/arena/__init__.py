"""A live arena: anybody asks, two anonymous systems answer, people vote, and votes become a leaderboard and open data.

The same code serves text, images and music; what differs is how an answer is shown and how attention is measured.

Source:
    Kim et al. (2025), Music Arena: live evaluation for text-to-music.
"""
