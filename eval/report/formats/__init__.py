"""The forms of the leaderboard, one file each."""
