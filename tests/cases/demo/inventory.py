import json
from pathlib import Path


class Item:
    def __init__(self, name, price, quantity=1):
        self.name = name
        self.price = price
        self.quantity = quantity

    def to_dict(self):
        return {"name": self.name, "price": self.price, "quantity": self.quantity}


class Inventory:
    def __init__(self, path):
        self.path = path
        self.items = []

    def add(self, item):
        self.items.append(item)
        return self

    def find(self, name):
        for item in self.items:
            if item.name == name:
                return item
        return None

    def total_price(self):
        total = 0
        for item in self.items:
            total += item.price * item.quantity
        return total

    def save(self):
        data = [item.to_dict() for item in self.items]
        with open(self.path, "w") as file:
            json.dump(data, file)


def load_inventory(path):
    inventory = Inventory(path)
    for entry in json.loads(Path(path).read_text()):
        inventory.add(Item(**entry))
    return inventory
