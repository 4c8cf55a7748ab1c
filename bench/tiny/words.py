"""The words that all prompts are made of; few, so that a small model can know each of them."""

# fmt: off
NAMES = [
    "Anna", "Ben", "Carla", "David", "Emma", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kate", "Leo", "Mia",
    "Noah", "Olga", "Paul", "Rosa", "Sam", "Tara", "Uma", "Vera", "Will", "Yara", "Zoe",
]
THINGS = [
    "apples", "balls", "books", "boxes", "cards", "coins", "cups", "eggs", "keys", "pens", "plates", "shells",
    "stamps", "stones", "tickets", "toys",
]
COLOURS = ["black", "blue", "gold", "green", "pink", "red", "white", "yellow"]
ANIMALS = [
    "ant", "bat", "bear", "bee", "camel", "cat", "cow", "crab", "deer", "dog", "duck", "eagle", "fish", "fox",
    "frog", "goat", "horse", "lamb", "lion", "mole", "mouse", "owl", "panda", "pig", "rat", "seal", "sheep",
    "swan", "tiger", "wolf",
]
FRUITS = [
    "apple", "banana", "cherry", "date", "fig", "grape", "kiwi", "lemon", "lime", "mango", "melon", "orange",
    "papaya", "peach", "pear", "plum", "quince",
]
CITIES = [
    "Berlin", "Cairo", "Delhi", "Lagos", "Lima", "London", "Madrid", "Oslo", "Paris", "Quito", "Rome",
    "Seoul", "Tokyo",
]
JOBS = ["baker", "cook", "doctor", "driver", "farmer", "nurse", "painter", "pilot", "singer", "teacher"]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
